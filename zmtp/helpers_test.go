package zmtp

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// addr is the address at which the sockets of a test in memory listen.
const addr = "127.0.0.1:5555"

// inMemory returns cfg with a dialer for n.
func inMemory(n *zmtptest.Network, cfg Config) Config {
	cfg.Dial = func(ctx context.Context, _, address string) (net.Conn,
		error) {
		return n.Dial(ctx, address)
	}
	return cfg
}

// bind makes s listen at address in n.
func bind(t testing.TB, n *zmtptest.Network, s *Socket, address string) {
	t.Helper()
	l, err := n.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	if bound, err := s.Serve(l); err != nil || bound != "tcp://"+address {
		t.Fatal(bound, err)
	}
}

// listenRaw lets the test accept, as a raw peer, the connections of a socket to address.
func listenRaw(t testing.TB, n *zmtptest.Network, address string) net.Listener {
	t.Helper()
	l, err := n.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// acceptRaw waits for a connection.
func acceptRaw(t testing.TB, l net.Listener) *zmtptest.Raw {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return zmtptest.NewRaw(t, conn)
}

// dialRaw connects to a socket that listens at address.
func dialRaw(t testing.TB, n *zmtptest.Network, address string) *zmtptest.Raw {
	t.Helper()
	conn, err := n.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return zmtptest.NewRaw(t, conn)
}

// ready is the READY command of a socket.
func ready(typ wire.SocketType) []byte {
	return wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendMetadata(nil, localMetadata(typ, nil, nil)))
}

// signature is what a socket sends before it has read anything.
func signature() []byte { return wire.AppendGreeting(nil, "NULL", false)[:wire.SignatureSize] }

// greeting30 is the greeting of a ZMTP 3.0 peer.
func greeting30() []byte {
	b := wire.AppendGreeting(nil, "NULL", false)
	b[11] = 0
	return b
}

// shake plays the handshake of a ZMTP 3.1 peer of type typ against a socket of type other.
func shake(r *zmtptest.Raw, typ, other wire.SocketType) {
	r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(typ)...))
	r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(other)...))
}

// alive checks that a connection with a complete handshake is open and being read.
func alive(r *zmtptest.Raw) {
	r.Send(wire.AppendCommand(nil, wire.CmdPing, []byte("\x00\x00alive?")))
	r.Expect(wire.AppendCommand(nil, wire.CmdPong, []byte("alive?")))
}

// frame returns a message of one part on the wire.
func frame(part string) []byte { return wire.AppendFrame(nil, 0, []byte(part)) }

func subscribe(topic string) []byte {
	return wire.AppendSubscription(nil, false, true, []byte(topic))
}

func cancel(topic string) []byte {
	return wire.AppendSubscription(nil, false, false, []byte(topic))
}

// text returns the parts of a message for comparisons.
func text(m Message) string {
	s := ""
	for i, part := range m.AppendParts(nil) {
		if i > 0 {
			s += ","
		}
		s += string(part)
	}
	return s
}

// received returns what can be received now.
func received(t testing.TB, s interface{ TryRecv() (Message, error) }) []string {
	t.Helper()
	var all []string
	for {
		m, err := s.TryRecv()
		if errors.Is(err, ErrWouldBlock) || errors.Is(err, ErrClosed) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text(m))
	}
}

// closeNow closes a socket.
func closeNow(t testing.TB, s interface{ Close() error }) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// events returns the events that a monitor has recorded so far.
func events(m *Monitor) []Event {
	var all []Event
	for {
		select {
		case e, ok := <-m.Events():
			if !ok {
				return all
			}
			all = append(all, e)
		default:
			return all
		}
	}
}

// one returns the only peer of a socket.
func one(t testing.TB, s *Socket) *Peer {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) != 1 {
		t.Fatalf("%d peers, want 1", len(s.peers))
	}
	for p := range s.peers {
		return p
	}
	return nil
}

// elapsed returns how long f takes in the bubble's time.
func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// bubble runs f in a synctest bubble with a network of its own.
func bubble(t *testing.T, f func(t *testing.T, n *zmtptest.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, new(zmtptest.Network)) })
}
