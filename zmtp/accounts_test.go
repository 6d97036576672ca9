package zmtp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A SUB drops messages of a topic that was cancelled before the application receives them, as
// libzmq's does.
func TestSubFiltersWhenReceiving(t *testing.T) {
	for _, batches := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			sub := NewSub(Config{})
			defer closeNow(t, sub)
			sub.Subscribe("a")
			sub.Subscribe("b")
			bind(t, n, sub.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUB, wire.SUB)
			r.Send(slices.Concat(frame("a1"), frame("b1"), frame("a2"), frame("c1")))
			synctest.Wait()
			sub.Unsubscribe("a")
			var got []string
			if batches {
				b, err := sub.TryRecvBatch()
				if err != nil {
					t.Fatal(err)
				}
				for m := range b.Messages() {
					got = append(got, text(m))
				}
			} else {
				got = received(t, sub)
			}
			if !slices.Equal(got, []string{"b1"}) {
				t.Errorf("received %q", got)
			}
			if st := sub.Stats(); st.In.Messages != 4 || st.Filtered != 3 || st.RecvQueued != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// An XPUB whose application only publishes goes on accepting subscriptions.
func TestXPubThatDoesNotReceive(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xpub := NewXPub(Config{RecvHWM: 10}, XPubOptions{Verboser: true})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.SUB, wire.XPUB)
		var all []byte
		const rounds = maxNotes/2 + 1000
		for range rounds {
			all = append(append(all, subscribe("other")...), cancel("other")...)
		}
		r.Conn.SetDeadline(time.Time{})
		if _, err := r.Conn.Write(append(all, subscribe("topic")...)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := xpub.TrySend(NewMessageString("topic")); err != nil {
			t.Fatal(err)
		}
		r.Expect(frame("topic"))
		st := xpub.Stats()
		if st.RecvQueued != maxNotes || st.Dropped[DropFull] != 2*rounds+1-maxNotes {
			t.Errorf("%d wait, dropped %v", st.RecvQueued, st.Dropped)
		}
	})
}

// Stats.Out counts the messages to an endpoint while it is being disconnected, and after that.
func TestOutNeverDecreases(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		for range 10 {
			push.TrySend(NewMessageString("m"))
		}
		out := func(when string) {
			t.Helper()
			if st := push.Stats(); st.Out.Messages != 10 {
				t.Errorf("%s: %d messages sent", when, st.Out.Messages)
			}
		}
		out("before")
		push.Disconnect("tcp://" + addr)
		out("while it is being disconnected")
		r := puller(t, listenRaw(t, n, addr))
		for range 10 {
			r.Expect(frame("m"))
		}
		r.Conn.Close()
		synctest.Wait()
		time.Sleep(time.Minute)
		out("afterwards")
	})
}

// Whatever happens to connections, every message of a PUSH and of a PULL is in one of the accounts.
func TestAccountsAddUp(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			random := rand.New(rand.NewPCG(seed, 1))
			n.Buffer = 300
			push := NewPush(inMemory(n, Config{SendHWM: 20, ReconnectInterval: time.Second}),
				PushOptions{Immediate: seed%2 == 0})
			pulls := []*Pull{NewPull(Config{RecvHWM: 5}), NewPull(Config{RecvHWM: 5})}
			address := func(i int) string { return fmt.Sprint("10.0.0.", i, ":1") }
			for i, pull := range pulls {
				bind(t, n, pull.Socket, address(i))
				push.Connect("tcp://" + address(i))
			}
			synctest.Wait()
			accepted, taken := uint64(0), uint64(0)
			for i := range 300 {
				switch random.IntN(20) {
				case 0:
					for _, c := range n.Conns(address(random.IntN(2))) {
						c.Cut()
					}
				case 1:
					time.Sleep(time.Second)
				case 2:
					for _, c := range n.Conns(address(random.IntN(2))) {
						c.Close()
					}
				case 3, 4, 5, 6:
					if _, err := pulls[random.IntN(2)].TryRecv(); err == nil {
						taken++
					}
				default:
					if push.TrySend(NewMessageString(fmt.Sprintf("%060d", i))) == nil {
						accepted++
					}
				}
				synctest.Wait()
			}
			closeNow(t, push)
			synctest.Wait()
			st := push.Stats()
			written := st.Out.Messages - st.Returned
			if total := written + st.Dropped[DropClosed]; written > accepted || total < accepted {
				t.Errorf("seed %d: %d accepted: %+v", seed, accepted, st)
			}
			in, dropped := uint64(0), uint64(0)
			for _, pull := range pulls {
				closeNow(t, pull)
				st := pull.Stats()
				in += st.In.Messages
				dropped += st.Dropped[DropClosed]
				if st.RecvQueued != 0 {
					t.Errorf("seed %d: %d wait in a closed socket", seed, st.RecvQueued)
				}
			}
			if in != taken+dropped || in > written {
				t.Errorf("seed %d: %d came, %d were taken and %d dropped, %d written", seed, in,
					taken, dropped, written)
			}
		})
	}
}

// A frame header with an absurd size ends only its connection, even without limits.
func TestAbsurdSizesWithoutLimits(t *testing.T) {
	none := Config{
		MaxMessageSize: -1, MaxParts: -1, SendHWM: -1, RecvHWM: -1, SendBytes: -1, RecvBytes: -1,
		TotalRecvBytes: -1,
	}
	for _, size := range []uint64{1<<63 - 1, 1<<63 - 10, 1<<63 - 11, 1 << 62, 1<<61 - 20, 1 << 48, 1 << 63, 1<<64 - 1} {
		for _, flags := range []byte{2, 3, 6} {
			for _, before := range [][]byte{nil, frame("whole"), {1, 1, 'x'}, subscribe("t")} {
				bubble(t, func(t *testing.T, n *zmtptest.Network) {
					pull := NewPull(none)
					defer closeNow(t, pull)
					bind(t, n, pull.Socket, addr)
					r, other := dialRaw(t, n, addr), dialRaw(t, n, addr)
					shake(r, wire.PUSH, wire.PULL)
					shake(other, wire.PUSH, wire.PULL)
					header := []byte{flags}
					for shift := 56; shift >= 0; shift -= 8 {
						header = append(header, byte(size>>shift))
					}
					r.Send(append(slices.Clone(before), append(header, make([]byte, 5000)...)...))
					synctest.Wait()
					alive(other)
				})
			}
		}
	}
}
