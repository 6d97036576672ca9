package zmtp

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A message may arrive in many reads and many parts. Its cost is proportional to its size, so that
// no peer takes the time of others.
func TestLargeMessageCostsInProportion(t *testing.T) {
	const size = 16 << 20
	one := wire.AppendFrame(nil, 0, make([]byte, size))
	var tail []byte // a large part and many small ones
	tail = wire.AppendFrame(tail, wire.More, make([]byte, size))
	for range 2000 {
		tail = wire.AppendFrame(tail, wire.More, make([]byte, 100))
	}
	tail = append(tail, 0, 0)
	for name, stream := range map[string][]byte{"one part": one, "many parts behind a large one": tail} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &zmtptest.Network{Buffer: 4 << 10}
				pull := NewPull(Config{})
				defer closeNow(t, pull)
				bind(t, n, pull.Socket, addr)
				r := dialRaw(t, n, addr)
				shake(r, wire.PUSH, wire.PULL)
				got := allocated(func() {
					r.Send(stream)
					synctest.Wait()
				})
				// 2 is the cost of doubling, 1 the copy for the queue, and the rest is for the
				// growth by a quarter.
				if limit := uint64(8 * len(stream)); got > limit {
					t.Errorf("%d bytes allocated for a message of %d", got, len(stream))
				}
				m, err := pull.TryRecv()
				if err != nil || !bytes.Equal(m.Wire(), stream) {
					t.Fatal("not the message that was sent", err)
				}
			})
		})
	}
}

// An announced size costs nothing before the bytes arrive.
func TestAnnouncedSizeCostsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PUSH, wire.PULL)
		synctest.Wait()
		got := allocated(func() {
			r.Send(append(wire.AppendHeader(nil, 0, 64<<20), make([]byte, 5000)...))
			synctest.Wait()
		})
		if got > 64<<10 {
			t.Errorf("%d bytes allocated for a message of which 5000 bytes came", got)
		}
		r.Send(wire.AppendHeader(nil, 0, 1)) // these are bytes of the message
		alive := dialRaw(t, n, addr)
		shake(alive, wire.PUSH, wire.PULL)
		synctest.Wait() // READY is out before the peer is counted
		if st := pull.Stats(); st.Peers != 2 {
			t.Errorf("%d peers, want 2", st.Peers)
		}
	})
}

// A connection may break while subscriptions are being sent.
func TestConnectionBreaksInsideSubscriptions(t *testing.T) {
	for name, greeting := range map[string][]byte{"3.1": wire.AppendGreeting(nil, "NULL", false), "3.0": greeting30()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &zmtptest.Network{Buffer: 100}
				l := listenRaw(t, n, addr)
				sub := NewSub(inMemory(n, Config{}))
				defer closeNow(t, sub)
				for i := range 100 {
					sub.SubscribeBytes([]byte{'t', byte(i)})
				}
				if err := sub.Connect("tcp://" + addr); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					r := acceptRaw(t, l)
					r.Send(append(greeting, ready(wire.PUB)...))
					r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.SUB)...))
					synctest.Wait() // the buffer of the connection is full
					r.Conn.(*zmtptest.Conn).Cut()
				}
				if st := sub.Stats(); st.Dropped.Total() != 0 {
					t.Errorf("dropped %v, subscriptions are no messages", st.Dropped)
				}
			})
		})
	}
}
