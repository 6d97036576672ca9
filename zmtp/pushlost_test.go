package zmtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// wholeMessages returns the whole messages among the bytes that were read from a connection.
func wholeMessages(b []byte) (all []string) {
	var d wire.Decoder
	for {
		it, err := d.Next(b)
		if err != nil || it.Kind != wire.AMessage {
			return all
		}
		all = append(all, text(Message{wire: b[:it.Size]}))
		b = b[it.Size:]
	}
}

// Peers come and go, and each reads everything that was sent to it before it goes. Then every
// message arrives exactly once, wherever it was when the connection ended, even half on the wire.
func TestPushGivesNothingTwice(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprint("sticky=", sticky), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				n.Buffer = 700
				opt := PushOptions{Immediate: true}
				if sticky {
					opt.Key = keyOf
				}
				push := NewPush(inMemory(n, Config{SendHWM: 100}), opt)
				defer closeNow(t, push)
				type listener struct {
					accept func() *zmtptest.Raw
					peer   *zmtptest.Raw
				}
				var listeners []*listener
				for i := range 3 {
					address := fmt.Sprintf("10.0.0.%d:1", i)
					l := listenRaw(t, n, address)
					end := &listener{accept: func() *zmtptest.Raw { return puller(t, l) }}
					listeners = append(listeners, end)
					if err := push.Connect("tcp://" + address); err != nil {
						t.Fatal(err)
					}
					end.peer = end.accept()
				}
				const count = 2000
				sent := make(chan error, 1)
				go func() {
					for i := range count {
						if err := push.Send(t.Context(),
							NewMessageString(fmt.Sprintf("%d:%05d%90d", i%7, i, 0))); err != nil {
							sent <- err
							return
						}
					}
					sent <- nil
				}()
				var got []string
				for round := range 60 {
					end := listeners[round%3]
					for range round % 20 {
						if synctest.Wait(); end.peer.Conn.(*zmtptest.Conn).Buffered() == 0 {
							break // all keys that are being sent are at home elsewhere
						}
						_, body := end.peer.ReadFrame()
						got = append(got, string(body))
					}
					if round%2 == 1 {
						synctest.Wait() // sometimes in the middle of a write, sometimes not
					}
					end.peer.Conn.(*zmtptest.Conn).CloseWrite()
					rest, err := io.ReadAll(end.peer.Conn)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, wholeMessages(rest)...)
					end.peer.Conn.Close()
					end.peer = end.accept()
				}
				done := make(chan []string)
				for _, end := range listeners {
					go func() {
						rest, _ := io.ReadAll(end.peer.Conn)
						done <- wholeMessages(rest)
					}()
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				shutdown0(t, push, time.Hour)
				for range listeners {
					got = append(got, <-done...)
				}
				slices.Sort(got)
				if unique := slices.Compact(slices.Clone(got)); len(got) != count ||
					len(unique) != count {
					t.Errorf("%d messages came, %d different ones, want %d", len(got), len(unique),
						count)
				}
				st := push.Stats()
				if st.Out.Messages-st.Returned != count || st.Returned == 0 ||
					st.Dropped[DropClosed] != 0 {
					t.Errorf("sent %d, of which %d were taken back; dropped %v", st.Out.Messages,
						st.Returned, st.Dropped)
				}
			})
		})
	}
}

// Shutdown waits for a peer to which returned messages can go, and counts them as dropped if none
// comes.
func TestPushShutdownWithoutPeers(t *testing.T) {
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprint("somebody comes=", comes), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				n.Buffer = 64
				push := NewPush(inMemory(n, Config{}), PushOptions{Immediate: true})
				push.Connect("tcp://" + addr)
				l := listenRaw(t, n, addr)
				r := puller(t, l)
				synctest.Wait()
				for i := range 10 {
					if err := push.TrySend(NewMessageString(fmt.Sprintf("%0100d", i))); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				r.Conn.(*zmtptest.Conn).Cut()
				synctest.Wait()
				if !comes {
					l.Close()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if d := elapsed(func() {
						if err := push.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("error %v", err)
						}
					}); d != time.Minute {
						t.Errorf("took %v", d)
					}
					if st := push.Stats(); st.Dropped[DropClosed] != 10 {
						t.Errorf("dropped %v", st.Dropped)
					}
					return
				}
				done := make(chan error, 1)
				go func() { done <- push.Shutdown(t.Context()) }()
				r = puller(t, l)
				if err := push.TrySend(NewMessageString("m")); err != ErrClosed {
					t.Errorf("sending after the end has begun: %v", err)
				}
				for i := range 10 {
					r.Expect(frame(fmt.Sprintf("%0100d", i)))
				}
				r.ExpectClose()
				r.Conn.Close()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if st := push.Stats(); st.Dropped.Total() != 0 {
					t.Errorf("dropped %v", st.Dropped)
				}
			})
		})
	}
}

// Close counts returned messages that went to no other peer.
func TestPushCloseCountsWhatCameBack(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{}), PushOptions{Immediate: true})
		ob := newOutbox(0, 0, nil)
		push.balancer.add(newOutPipe(ob, "a", false))
		for range 3 {
			if err := push.TrySend(NewMessageString("m")); err != nil {
				t.Fatal(err)
			}
		}
		push.balancer.takeBack(ob)
		closeNow(t, push)
		if st := push.Stats(); st.Dropped[DropClosed] != 3 {
			t.Errorf("dropped %v", st.Dropped)
		}
	})
}

// The counters of an endpoint go on with its next connection.
func TestConnecters(t *testing.T) {
	for _, immediate := range []bool{true, false} {
		t.Run(fmt.Sprint("immediate=", immediate), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				push := NewPush(inMemory(n, Config{}), PushOptions{Immediate: immediate})
				defer closeNow(t, push)
				bind(t, n, push.Socket, "c:1")
				for _, address := range []string{"a:1", "b:1"} {
					push.Connect("tcp://" + address)
				}
				l := listenRaw(t, n, "a:1")
				for round := range 3 {
					r := puller(t, l)
					synctest.Wait()
					// The queue for b:1, where nobody listens, gets every other message.
					messages := 1
					if !immediate {
						messages = 2
					}
					for range messages {
						if err := push.TrySend(NewMessageString("12345")); err != nil {
							t.Fatal(err)
						}
					}
					r.Expect(frame("12345"))
					synctest.Wait()
					want := uint64(round + 1)
					check := func(connected bool) {
						t.Helper()
						all := push.Connecters()
						if len(all) != 2 {
							t.Fatalf("%+v", all)
						}
						slices.SortFunc(all,
							func(x,
								y EndpointStats) int {
								return int(x.Endpoint[6]) - int(y.Endpoint[6])
							})
						if a := all[0]; a.Connected != connected || a.Connections != want ||
							a.Out != (Traffic{want, want, 5 * want}) {
							t.Errorf("%+v after %d connections", a, want)
						}
						b := all[1]
						if b.Connected || b.Connections != 0 || !immediate &&
							(b.Queued != int(want) || b.QueuedBytes != int64(7*want)) {
							t.Errorf("%+v, nobody is there", b)
						}
					}
					check(true)
					r.Conn.Close()
					synctest.Wait()
					check(false)
				}
			})
		})
	}
}

// With RetryAlways an endpoint whose peer breaks the protocol is not given up.
func TestRetryAlways(t *testing.T) {
	for _, always := range []bool{true, false} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			push := NewPush(inMemory(n, Config{RetryAlways: always}), PushOptions{Immediate: true})
			defer closeNow(t, push)
			push.Connect("tcp://" + addr)
			l := listenRaw(t, n, addr)
			bad := acceptRaw(t, l)
			bad.Send(wire.AppendGreeting(nil, "CURVE", true))
			synctest.Wait()
			l.Close()
			time.Sleep(time.Minute)
			synctest.Wait()
			if left := len(push.Connecters()); (left == 1) != always {
				t.Fatalf("%d endpoints are left", left)
			}
			if !always {
				return
			}
			r := puller(t, listenRaw(t, n, addr))
			if err := push.Send(t.Context(), NewMessageString("m")); err != nil {
				t.Fatal(err)
			}
			r.Expect(frame("m"))
		})
	}
}

// The number of encrypted bytes that the kernel took determines how many bytes of content it has.
func TestUnsealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var chunks []chunk
		var sealed []byte
		type edge struct{ sealed, plain int }
		edges := []edge{{}}
		plain := 0
		for range rapid.IntRange(1, 3).Draw(t, "chunks") {
			var c chunk
			for range rapid.IntRange(1, 4).Draw(t, "frames") {
				body := make([]byte,
					rapid.SampledFrom([]int{0, 1, 100, 252, 253, 255, 256, 1000}).Draw(t, "size"))
				before := len(c.b)
				c.b = wire.AppendFrame(c.b,
					rapid.SampledFrom([]wire.Flags{0, wire.More}).Draw(t, "flags"), body)
				plain += len(c.b) - before
				sealed = wire.AppendFrame(sealed, 0, append(body, "+++"...))
				edges = append(edges, edge{len(sealed), plain})
			}
			chunks = append(chunks, c)
		}
		n := rapid.IntRange(0, len(sealed)).Draw(t, "written")
		want := 0
		for _, e := range edges {
			if e.sealed <= n {
				want = e.plain
			}
		}
		if got := unsealed(chunks, sealed[:n]); got != want {
			t.Fatalf("%d of %d protected bytes are %d bytes, want %d", n, len(sealed), got, want)
		}
	})
}
