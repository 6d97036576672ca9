package zmtp

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// listening returns a Pull with a raw PUSH connected.
func listening(t *testing.T, n *zmtptest.Network, cfg Config) (*Pull, *zmtptest.Raw) {
	t.Helper()
	pull := NewPull(cfg)
	bind(t, n, pull.Socket, addr)
	r := dialRaw(t, n, addr)
	shake(r, wire.PUSH, wire.PULL)
	synctest.Wait()
	return pull, r
}

func TestHeartbeatTimes(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		start := time.Now()
		pull, r := listening(t, n, Config{
			HeartbeatInterval: 2 * time.Second, HeartbeatTimeout: 3 * time.Second,
			HeartbeatTTL: 1250 * time.Millisecond,
		})
		defer closeNow(t, pull)
		ping := wire.AppendPing(nil, 12)
		at := func(want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("after %v, want %v", got, want)
			}
		}
		r.Expect(ping)
		at(2 * time.Second)
		r.Send(wire.AppendPong(nil, nil))
		r.Expect(ping) // traffic does not change the interval
		at(4 * time.Second)
		time.Sleep(time.Second)
		r.Send(frame("any frame will do"))
		r.Expect(ping)
		at(6 * time.Second)
		r.Expect(ping) // armed by the PING before, which this one does not change
		at(8 * time.Second)
		r.ExpectClose()
		at(9 * time.Second)
		synctest.Wait()
		if st := pull.Stats(); st.Closed[wire.HeartbeatTimeout] != 1 {
			t.Errorf("closed %v", st.Closed)
		}
	})
}

// The default timeout is the interval.
func TestHeartbeatTimeoutDefault(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		start := time.Now()
		pull, r := listening(t, n, Config{HeartbeatInterval: time.Second})
		defer closeNow(t, pull)
		r.Expect(wire.AppendPing(nil, 0))
		r.Conn.SetReadDeadline(time.Time{})
		if got, _ := io.ReadAll(r.Conn); len(got) > 0 &&
			!bytes.Equal(got, wire.AppendPing(nil, 0)) {
			t.Errorf("% x", got) // the next PING is due at the same moment
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestHeartbeatTTLIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{HeartbeatInterval: time.Second, HeartbeatTTL: time.Hour})
		defer closeNow(t, pull)
		r.Expect(wire.AppendPing(nil, 655))
	})
}

// The TTL of a peer's PING is honoured, also one that libzmq cannot represent. Any frame resets it.
func TestPeersTTL(t *testing.T) {
	for _, ttl := range []int{1, 5, 656, 65535} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			pull, r := listening(t, n, Config{})
			defer closeNow(t, pull)
			r.Timeout = 3 * time.Hour
			ping := wire.AppendCommand(nil, wire.CmdPing, []byte{byte(ttl >> 8), byte(ttl)})
			limit := time.Duration(ttl) * 100 * time.Millisecond

			r.Send(ping)
			r.Expect(wire.AppendPong(nil, nil))
			time.Sleep(limit - time.Millisecond)
			r.Send(frame("disarms"))
			r.ExpectSilence(2 * limit)

			r.Send(ping)
			r.Expect(wire.AppendPong(nil, nil))
			if d := elapsed(r.ExpectClose); d != limit {
				t.Errorf("TTL %d: closed after %v, want %v", ttl, d, limit)
			}
			synctest.Wait()
			if st := pull.Stats(); st.Closed[wire.TTLExpired] != 1 {
				t.Errorf("closed %v", st.Closed)
			}
		})
	}
}

// While the application does not receive, the socket does not read, so it does not close the peer
// for being silent.
func TestHeartbeatWhileHeldUp(t *testing.T) {
	t.Run("by messages", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			pull, r := listening(t, n, Config{RecvHWM: 1, HeartbeatInterval: time.Second})
			defer closeNow(t, pull)
			r.Timeout = time.Hour
			r.Send(append(frame("1"), frame("2")...))
			go r.Conn.Write(wire.AppendCommand(nil, wire.CmdPing, []byte{0, 10})) // is not read
			time.Sleep(time.Minute)
			synctest.Wait()
			stillOpen(t, one(t, pull.Socket))
			if got := received(t, pull); len(got) != 1 {
				t.Fatalf("received %q", got)
			}
			synctest.Wait()
			if got := received(t, pull); len(got) != 1 {
				t.Fatalf("received %q", got)
			}
			time.Sleep(2*time.Second + time.Millisecond)
			synctest.Wait()
			if st := pull.Stats(); st.Peers != 0 {
				t.Error("a peer that says nothing is kept when it could be heard")
			}
		})
	})
	t.Run("by messages upstream", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			xpub := NewXPub(Config{RecvHWM: 1, HeartbeatInterval: time.Second}, XPubOptions{})
			defer closeNow(t, xpub)
			bind(t, n, xpub.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.SUB, wire.XPUB)
			for _, m := range []string{"a", "b", "c"} {
				r.Send(frame(m))
			}
			time.Sleep(time.Minute)
			stillOpen(t, one(t, xpub.Socket))
		})
	})
}

func stillOpen(t *testing.T, p *Peer) {
	t.Helper()
	select {
	case <-p.Done():
		t.Fatalf("closed: %v", p.cause)
	default:
	}
}

// Every type answers PING, also those that never receive.
func TestEveryTypeAnswersPing(t *testing.T) {
	for typ, k := range kinds() {
		for _, v30 := range []bool{false, true} {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				s := k.make(Config{})
				defer closeNow(t, s.Socket)
				bind(t, n, s.Socket, addr)
				r := dialRaw(t, n, addr)
				greeting := wire.AppendGreeting(nil, "NULL", false)
				if v30 {
					greeting = greeting30()
				}
				r.Send(append(greeting, ready(k.peer)...))
				r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(typ)...))
				alive(r)
			})
		}
	}
}

// A peer that sends PINGs without reading the answers is not read any more, so that the answers do
// not fill the memory.
func TestPingFlood(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{})
		defer closeNow(t, pull)
		flood := make([]byte, 0, 1<<20)
		for len(flood) < 1<<20-30 {
			flood = wire.AppendCommand(flood, wire.CmdPing, []byte("\x00\x00sixteen bytes ok"))
		}
		written := 0
		r.Conn.SetDeadline(time.Time{})
		go func() { written, _ = r.Conn.Write(flood) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		p := one(t, pull.Socket)
		p.outbox.mu.Lock()
		waiting := len(p.outbox.control)
		p.outbox.mu.Unlock()
		if waiting > 2*maxControl {
			t.Errorf("%d bytes of PONG wait", waiting)
		}
		if written != 0 {
			t.Error("all was read")
		}
		// Once it reads, all answers arrive and the connection goes on.
		for range len(flood) / len(wire.AppendCommand(nil, wire.CmdPing, []byte("\x00\x00sixteen bytes ok"))) {
			r.Expect(wire.AppendPong(nil, []byte("sixteen bytes ok")))
		}
		alive(r)
	})
}
