package zmtp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// waitEvent waits for the next event of that type.
func waitEvent(t *testing.T, m *Monitor, typ EventType) Event {
	t.Helper()
	for e := range m.Events() {
		if e.Type == typ {
			return e
		}
	}
	t.Fatalf("no event %v", typ)
	return Event{}
}

// A peer has HandshakeTimeout from its connect on, whatever it sends.
func TestHandshakeTimeout(t *testing.T) {
	stream := append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUSH)...)
	for name, trickle := range map[string]time.Duration{"mute": 0, "a byte a second": time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				pull := NewPull(Config{HandshakeTimeout: 30 * time.Second})
				defer closeNow(t, pull)
				bind(t, n, pull.Socket, addr)
				m := pull.Monitor(10)
				start := time.Now()
				r := dialRaw(t, n, addr)
				var writer sync.WaitGroup
				defer writer.Wait()
				if trickle > 0 {
					writer.Go(func() {
						for _, b := range stream {
							if _, err := r.Conn.Write([]byte{b}); err != nil {
								return
							}
							time.Sleep(trickle)
						}
					})
				}
				e := waitEvent(t, m, EventHandshakeFailedNoDetail)
				if d := time.Since(start); d != 30*time.Second {
					t.Errorf("closed after %v", d)
				}
				if r := reasonOf(e.Err); r != wire.HandshakeTimeout {
					t.Errorf("reason %v: %v", r, e.Err)
				}
				if trickle > 0 {
					r.Expect(wire.AppendGreeting(nil, "NULL", false))
				} else {
					r.Expect(signature())
				}
				r.ExpectClose()
				if st := pull.Stats(); st.HandshakeFailures[wire.HandshakeTimeout] != 1 ||
					st.PendingHandshakes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A connection to a silent server is closed after the same time, and made again.
func TestHandshakeTimeoutOfConnecter(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		l := listenRaw(t, n, addr)
		push := NewPush(inMemory(n, Config{HandshakeTimeout: time.Second}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		r := acceptRaw(t, l)
		if d := elapsed(func() { r.Expect(signature()); r.ExpectClose() }); d != time.Second {
			t.Errorf("closed after %v", d)
		}
		acceptRaw(t, l)
	})
}

// A handshake may arrive in any pieces, also together with traffic that follows it.
func TestHandshakeInPieces(t *testing.T) {
	stream := append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUSH)...)
	stream = append(stream, frame("behind")...)
	for cut := range stream {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			pull := NewPull(Config{})
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			r := dialRaw(t, n, addr)
			r.Send(stream[:cut])
			synctest.Wait()
			r.Send(stream[cut:])
			r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PULL)...))
			if m, err := pull.Recv(t.Context()); err != nil || text(m) != "behind" {
				t.Fatalf("cut at %d: %q, %v", cut, text(m), err)
			}
		})
	}
}

// A connection that ends at any byte of its handshake leaves nothing behind and disturbs no other.
func TestHandshakeTruncated(t *testing.T) {
	stream := append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUSH)...)
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		for cut := range stream {
			r := dialRaw(t, n, addr)
			r.Send(stream[:cut])
			synctest.Wait()
			r.Conn.Close()
		}
		synctest.Wait()
		st := pull.Stats()
		if got := st.HandshakeFailures[wire.PeerClosed]; got != uint64(len(stream)) ||
			st.PendingHandshakes != 0 || st.Peers != 0 {
			t.Errorf("%d failed, %d pending, %d peers", got, st.PendingHandshakes, st.Peers)
		}
		shake(dialRaw(t, n, addr), wire.PUSH, wire.PULL)
	})
}

// A fault is refused as soon as its bytes have arrived, with its reason.
func TestHandshakeRefusals(t *testing.T) {
	greeting := wire.AppendGreeting(nil, "NULL", false)
	signature := greeting[:wire.SignatureSize]
	property := func(name, value string) []byte {
		return wire.AppendCommand(nil, wire.CmdReady, wire.AppendProperty(nil, name, []byte(value)))
	}
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for name, c := range map[string]struct {
		local  wire.SocketType
		in     []byte
		reason Reason
		cfg    Config
	}{
		"two bytes of HTTP":      {wire.PULL, []byte("GE"), wire.NotZMTP, Config{}},
		"a zero":                 {wire.PULL, []byte{0}, wire.NotZMTP, Config{}},
		"ZMTP 1.0":               {wire.PULL, []byte{1, 0}, wire.UnsupportedVersion, Config{}},
		"ZMTP 1.0 with identity": {wire.PULL, []byte{4, 0}, wire.UnsupportedVersion, Config{}},
		"ZMTP 1.0 behind padding": {wire.PULL, join(signature[:9], []byte{0x7e}),
			wire.UnsupportedVersion, Config{}},
		"revision 0": {wire.PULL, join(signature, []byte{0}),
			wire.UnsupportedVersion, Config{}},
		"ZMTP 2.0": {wire.PULL, join(signature, []byte{1}),
			wire.UnsupportedVersion, Config{}},
		"CURVE": {wire.PULL, wire.AppendGreeting(nil, "CURVE", true),
			wire.MechanismMismatch, Config{}},
		"NULL with junk behind it": {wire.PULL, wire.AppendGreeting(nil, "NULL\x00\x00x", false),
			wire.MechanismMismatch, Config{}},
		"reserved bits": {wire.PULL, join(greeting, []byte{0x84}), wire.MalformedFrame,
			Config{}},
		"size above 2^63-1": {wire.PULL,
			join(greeting, []byte{6, 0x80, 0, 0, 0, 0, 0, 0, 0}), wire.MalformedFrame, Config{}},
		"huge frame announced": {wire.PULL,
			join(greeting, []byte{6, 0, 0, 0, 0, 0x40, 0, 0, 0}), wire.CommandTooLarge, Config{}},
		"frame above 64 KiB": {wire.PULL, join(greeting, []byte{6, 0, 0, 0, 0, 0, 1, 0, 1}),
			wire.CommandTooLarge, Config{}},
		"frame above the limit": {wire.PULL, join(greeting, []byte{4, 26}),
			wire.CommandTooLarge, Config{MaxMessageSize: 25}},
		"empty frame": {wire.PULL, join(greeting, []byte{4, 0}),
			wire.UnexpectedCommand, Config{}},
		"a message": {wire.PULL, join(greeting, frame("hello")),
			wire.UnexpectedCommand, Config{}},
		"PING": {wire.PULL, join(greeting, wire.AppendPing(nil, 0)),
			wire.UnexpectedCommand, Config{}},
		"ERROR": {wire.PULL, join(greeting, wire.AppendError(nil, "no")),
			wire.PeerError, Config{}},
		"ERROR that overruns": {wire.PULL,
			join(greeting, wire.AppendCommand(nil, "ERROR", []byte{3, 'n'})), wire.MalformedError,
			Config{}},
		"ERROR without reason": {wire.PULL,
			join(greeting, wire.AppendCommand(nil, "ERROR", nil)), wire.MalformedError, Config{}},
		"metadata cut": {wire.PULL,
			join(greeting, wire.AppendCommand(nil, "READY", []byte("\x0bSocket-Type\x00\x00"))),
			wire.MalformedReady, Config{}},
		"wrong type": {wire.PULL, join(greeting, property("Socket-Type", "PUB")),
			wire.SocketTypeMismatch, Config{}},
		"unknown type": {wire.PULL, join(greeting, property("Socket-Type", "PUSHY")),
			wire.SocketTypeMismatch, Config{}},
		"empty type": {wire.PULL, join(greeting, property("Socket-Type", "")),
			wire.SocketTypeMismatch, Config{}},
		"wrong type in lower case": {wire.PULL, join(greeting, property("socket-type", "PUB")),
			wire.SocketTypeMismatch, Config{}},
		"identity above 255 bytes": {wire.ROUTER,
			join(greeting, property("Identity", strings.Repeat("i", 256))), wire.BadIdentity,
			Config{}},
		"identity with zero, lower": {wire.ROUTER, join(greeting, property("identity", "\x00i")),
			wire.BadIdentity, Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				s := NewSocket(c.local, new(plainPattern), c.cfg)
				defer closeNow(t, s)
				bind(t, n, s, addr)
				m := s.Monitor(10)
				r := dialRaw(t, n, addr)
				if last := len(c.in) - 1; last > 0 {
					r.Send(c.in[:last])
					synctest.Wait()
					if st := s.Stats(); st.PendingHandshakes != 1 {
						t.Error("refused before the byte that is wrong")
					}
					c.in = c.in[last:]
				}
				r.Send(c.in)
				synctest.Wait() // no time passes
				st := s.Stats()
				if st.HandshakeFailures[c.reason] != 1 || st.PendingHandshakes != 0 {
					t.Errorf("failures %v, %d pending, want %v", st.HandshakeFailures,
						st.PendingHandshakes, c.reason)
				}
				disconnected := waitEvent(t, m, EventDisconnected)
				if disconnected.Remote == nil || disconnected.Endpoint != "tcp://"+addr {
					t.Errorf("event %+v", disconnected)
				}
			})
		})
	}
}

// Odd but harmless handshakes succeed.
func TestHandshakeTolerance(t *testing.T) {
	greeting := wire.AppendGreeting(nil, "NULL", false)
	property := func(name, value string) []byte {
		return wire.AppendCommand(nil, wire.CmdReady, wire.AppendProperty(nil, name, []byte(value)))
	}
	changed := func(at int, b byte) []byte {
		g := append([]byte{}, greeting...)
		g[at] = b
		return g
	}
	for name, in := range map[string][]byte{
		"padding of zeros":            append(changed(8, 0), ready(wire.PUSH)...),
		"any odd byte ends signature": append(changed(9, 0x01), ready(wire.PUSH)...),
		"a later version":             append(changed(10, 9), ready(wire.PUSH)...),
		"as-server is set":            append(changed(32, 1), ready(wire.PUSH)...),
		"filler is not checked":       append(changed(63, 0xff), ready(wire.PUSH)...),
		"no metadata": append(changed(8, 1),
			wire.AppendCommand(nil, "READY", nil)...),
		"names in any case":            append(changed(8, 1), property("sOCKET-tYPE", "PUSH")...),
		"empty name":                   append(changed(8, 1), property("", "x")...),
		"a PULL does not use identity": append(changed(8, 1), property("Identity", "\x00")...),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				pull := NewPull(Config{})
				defer closeNow(t, pull)
				bind(t, n, pull.Socket, addr)
				r := dialRaw(t, n, addr)
				r.Send(in)
				r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PULL)...))
				alive(r)
			})
		})
	}
}

// When one handshake too many is pending, the socket closes the oldest pending one, never a
// complete connection.
func TestPendingHandshakesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{MaxPendingHandshakes: 3})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		complete := dialRaw(t, n, addr)
		shake(complete, wire.PUSH, wire.PULL)
		var mute []*zmtptest.Raw
		for range 6 {
			r := dialRaw(t, n, addr)
			r.Expect(signature())
			mute = append(mute, r)
			if st := pull.Stats(); st.PendingHandshakes > 3 {
				t.Errorf("%d pending", st.PendingHandshakes)
			}
		}
		for _, r := range mute[:3] {
			r.ExpectClose()
		}
		for _, r := range mute[3:] {
			r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUSH)...))
			r.Expect(append(wire.AppendGreeting(nil, "NULL", false),
				ready(wire.PULL)...)[wire.SignatureSize:])
			alive(r)
		}
		alive(complete)
		synctest.Wait()
		st := pull.Stats()
		if st.HandshakeFailures[wire.HandshakeEvicted] != 3 || st.Peers != 4 ||
			st.PendingHandshakes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A burst stays within the bound even before any of its goroutines has run.
func TestPendingHandshakesInABurst(t *testing.T) {
	s := NewSocket(wire.PULL, new(plainPattern), Config{MaxPendingHandshakes: 10})
	defer closeNow(t, s)
	open := 0
	for range 100 {
		conn, other := zmtptest.Pipe(0)
		defer other.Close()
		s.mu.Lock()
		s.pend(&pending{conn: conn})
		if s.pending.Len() > s.cfg.MaxPendingHandshakes {
			s.evict(s.hog(), wire.HandshakeEvicted)
		}
		s.mu.Unlock()
		if open++; open > 10 {
			open = 10
		}
		if st := s.Stats(); st.PendingHandshakes != open {
			t.Fatalf("%d pending, want %d", st.PendingHandshakes, open)
		}
	}
}

// flaky is a listener that fails before it accepts.
type flaky struct {
	net.Listener
	failures int
	tried    []time.Time
}

func (l *flaky) Accept() (net.Conn, error) {
	l.tried = append(l.tried, time.Now())
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("no descriptors left")
	}
	return l.Listener.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		l, err := n.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		f := &flaky{Listener: l, failures: 10}
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		m := pull.Monitor(20)
		if _, err := pull.Serve(f); err != nil {
			t.Fatal(err)
		}
		r := dialRaw(t, n, addr)
		shake(r, wire.PUSH, wire.PULL)
		synctest.Wait()
		pause := 5 * time.Millisecond
		for i := range 10 {
			if d := f.tried[i+1].Sub(f.tried[i]); d != pause {
				t.Errorf("pause %d is %v, want %v", i, d, pause)
			}
			pause = min(2*pause, time.Second)
		}
		failed := 0
		for _, e := range events(m) {
			if e.Type == EventAcceptFailed {
				failed++
			}
		}
		if failed != 10 {
			t.Errorf("%d events, want 10", failed)
		}
	})
}

// An address with many pending handshakes does not displace the handshake of another address.
func TestPendingHandshakesOfOneAddress(t *testing.T) {
	for _, addresses := range []int{1, 3, 50} {
		s := NewSocket(wire.PULL, new(plainPattern), Config{MaxPendingHandshakes: 100})
		defer closeNow(t, s)
		add := func(address string) *pending {
			conn, other := zmtptest.Pipe(0)
			defer other.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			c := &pending{conn: conn, address: netip.MustParseAddr(address)}
			s.pend(c)
			if s.pending.Len() > s.cfg.MaxPendingHandshakes {
				s.evict(s.hog(), wire.HandshakeEvicted)
			}
			return c
		}
		honest := add("198.51.100.1")
		for i := range 1000 {
			add(fmt.Sprintf("192.0.2.%d", i%addresses))
		}
		if honest.reason != wire.ReasonNone {
			t.Errorf("%d addresses pushed out the honest one: %v", addresses, honest.reason)
		}
		if n := s.Stats().PendingHandshakes; n != 100 {
			t.Errorf("%d are pending", n)
		}
		s.mu.Lock()
		total := 0
		for _, n := range s.pendingBy {
			total += n
		}
		if total != 100 || len(s.pendingBy) != addresses+1 {
			t.Errorf("%d connections of %d addresses are counted", total, len(s.pendingBy))
		}
		s.mu.Unlock()
	}
}
