package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// sessions is a transport whose ends agree on the mechanism with a line of text instead of a
// greeting.
type sessions struct {
	n    *zmtptest.Network
	wrap func(net.Conn) net.Conn
}

func (s sessions) Listen(_ context.Context, address string, _ *Config) (net.Listener, string,
	error) {
	l, err := s.n.Listen(address)
	return wrapping{l, s.wrap}, address, err
}

func (s sessions) Dialer(address string, _ *Config) (func(context.Context) (net.Conn, error),
	error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := s.n.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return s.wrap(conn), nil
	}, nil
}

type wrapping struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrapping) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

type lineSession struct{ *zmtptest.Conn }

func (s lineSession) Open(_ context.Context, mechanism string) (t SessionTraits, err error) {
	if _, err := fmt.Fprintln(s, mechanism); err != nil {
		return t, err
	}
	var line []byte
	for b := []byte{0}; ; line = append(line, b[0]) {
		if _, err := s.Read(b); err != nil {
			return t, err
		}
		if b[0] == '\n' {
			break
		}
	}
	if string(line) != mechanism {
		return t, wire.Errorf(wire.MechanismMismatch, "the peer speaks %.20q", line)
	}
	return t, nil
}

func lines(conn net.Conn) net.Conn { return lineSession{conn.(*zmtptest.Conn)} }

// over returns cfg with the transport "test".
func over(cfg Config, n *zmtptest.Network, wrap func(net.Conn) net.Conn) Config {
	cfg.Transports = map[string]Transport{"test": sessions{n, wrap}}
	return cfg
}

// After the handshake of a Session a connection works like any other: the mechanism runs, an
// authenticator is asked, socket types are compared, and messages arrive.
func TestSession(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		server := PlainServer{Auth: Auth{Open: true}}
		client := PlainClient{User: "u", Password: "p"}
		pull := NewPull(over(Config{Mechanism: server.Mechanism}, n, lines))
		defer closeNow(t, pull)
		endpoint, err := pull.Listen("test://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		push := NewPush(over(Config{Mechanism: client.Mechanism}, n, lines), PushOptions{})
		if err := push.Connect(endpoint); err != nil {
			t.Fatal(err)
		}
		want := []string{"a", string(bytes.Repeat([]byte("b"), 100_000)), "c"}
		for _, m := range want {
			if err := push.Send(t.Context(), NewMessageString(m)); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range want {
			if got, err := pull.Recv(t.Context()); err != nil || text(got) != m ||
				got.Peer().SocketType() != PUSH {
				t.Fatalf("received %.10q from %v, %v", text(got), got.Peer(), err)
			}
		}
		if err := push.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A session that cannot be opened ends with the reason, one whose peer is silent with a timeout,
// and one with a peer of the wrong socket type as other connections do.
func TestSessionRefused(t *testing.T) {
	for name, c := range map[string]struct {
		peer   string
		reason Reason
	}{
		"other mechanism": {"CURVE\n", wire.MechanismMismatch},
		"silence":         {"", wire.HandshakeTimeout},
		"half a line":     {"NU", wire.HandshakeTimeout},
		"greeting":        {string(greeting30()) + "\n", wire.MechanismMismatch},
		"wrong type":      {"NULL\n" + string(ready(PUB)), wire.SocketTypeMismatch},
		"no command":      {"NULL\n" + string(frame("message")), wire.UnexpectedCommand},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				s := NewPull(over(Config{HandshakeTimeout: time.Minute}, n, lines))
				defer closeNow(t, s)
				if _, err := s.Listen("test://" + addr); err != nil {
					t.Fatal(err)
				}
				r := dialRaw(t, n, addr)
				r.Expect([]byte("NULL\n"))
				r.Send([]byte(c.peer))
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if st := s.Stats(); st.HandshakeFailures[c.reason] != 1 ||
					st.PendingHandshakes != 0 {
					t.Errorf("failures %v, pending %d", st.HandshakeFailures, st.PendingHandshakes)
				}
			})
		})
	}
}

// waiting is a Session whose Open waits for its context.
type waiting struct{ net.Conn }

func (waiting) Open(ctx context.Context, _ string) (t SessionTraits, err error) {
	<-ctx.Done()
	return t, ctx.Err()
}

// The context of Open ends with the time of the handshake, and with the socket.
func TestSessionWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		cfg := over(Config{HandshakeTimeout: time.Minute}, n, func(c net.Conn) net.Conn {
			return waiting{c}
		})
		s := NewPull(cfg)
		if _, err := s.Listen("test://" + addr); err != nil {
			t.Fatal(err)
		}
		dialRaw(t, n, addr)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.PendingHandshakes != 1 {
			t.Fatalf("%d handshakes are pending", st.PendingHandshakes)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.HandshakeFailures[wire.HandshakeTimeout] != 1 {
			t.Errorf("failures %v", st.HandshakeFailures)
		}
		dialRaw(t, n, addr)
		synctest.Wait()
		if took := elapsed(func() { closeNow(t, s) }); took > time.Second {
			t.Errorf("the socket waited %v for a session", took)
		}
	})
}

// rawSession is a Session without a protocol, as for a STREAM socket: what is read becomes messages
// of one part, and of messages only the bodies are written.
type rawSession struct {
	net.Conn
	ready   bool
	written []byte
}

func (*rawSession) Open(_ context.Context, mechanism string) (t SessionTraits, err error) {
	if mechanism != "NULL" {
		err = errors.New("a raw connection has no security")
	}
	return t, err
}

func (s *rawSession) Read(b []byte) (int, error) {
	if !s.ready {
		s.ready = true
		return copy(b, wire.AppendCommand(nil, wire.CmdReady, nil)), nil
	}
	room := make([]byte, min(255, len(b)-2))
	n, err := s.Conn.Read(room)
	if n == 0 {
		return 0, err
	}
	return copy(b, wire.AppendFrame(nil, 0, room[:n])), err
}

func (s *rawSession) Write(b []byte) (int, error) {
	s.written = append(s.written, b...)
	for {
		flags, size, header, err := wire.ParseHeader(s.written)
		if err != nil || header == 0 || len(s.written) < header+int(size) {
			return len(b), err
		}
		if flags&wire.Command == 0 {
			if _, err := s.Conn.Write(s.written[header : header+int(size)]); err != nil {
				return 0, err
			}
		}
		s.written = s.written[header+int(size):]
	}
}

// A Session can make messages of a connection that has no ZMTP.
func TestSessionWithoutProtocol(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := newBoth(over(Config{}, n, func(c net.Conn) net.Conn { return &rawSession{Conn: c} }))
		defer closeNow(t, s)
		if _, err := s.Listen("test://" + addr); err != nil {
			t.Fatal(err)
		}
		r := dialRaw(t, n, addr)
		r.Send([]byte("GET / HTTP/1.0\r\n\r\n"))
		m, err := s.Recv(t.Context())
		if err != nil || text(m) != "GET / HTTP/1.0\r\n\r\n" || m.Peer().SocketType() != "" {
			t.Fatalf("received %q, %v", text(m), err)
		}
		if err := s.Send(t.Context(), NewMessageString("HTTP/1.0 200 OK\r\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		r.Expect([]byte("HTTP/1.0 200 OK\r\n\r\n"))
	})
}

// namer is a Pattern that records the routing ids of its peers.
type namer struct {
	commander
	ids []string
}

func (n *namer) Attach(p *Peer) error { n.ids = append(n.ids, string(p.RoutingID())); return nil }

// A routing id from the configuration of one side reaches the pattern of the other, for the types
// that have one. Both sides refuse a wrong one.
func TestRoutingID(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		router := new(namer)
		s := NewSocket(ROUTER, router, Config{})
		defer closeNow(t, s)
		bind(t, n, s, addr)
		for _, id := range []string{"worker-1", "", "x"} {
			dealer := NewSocket(DEALER, new(commander), inMemory(n, Config{RoutingID: []byte(id)}))
			defer closeNow(t, dealer)
			if err := dealer.Connect("tcp://" + addr); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if got := fmt.Sprintf("%q", router.ids); got != `["worker-1" "" "x"]` {
			t.Errorf("the router knows %s", got)
		}
		for _, id := range []string{"\x00x", string(make([]byte, 256))} {
			dealer := NewSocket(DEALER, new(commander), inMemory(n, Config{RoutingID: []byte(id)}))
			if err := dealer.Connect("tcp://" + addr); reasonOf(err) != wire.BadIdentity {
				t.Errorf("routing id %.3q: %v", id, err)
			}
			closeNow(t, dealer)
		}
		pusher := new(namer)
		pull := NewSocket(PULL, pusher, Config{})
		defer closeNow(t, pull)
		bind(t, n, pull, "other:1")
		push := NewPush(inMemory(n, Config{RoutingID: []byte("x")}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://other:1")
		synctest.Wait()
		if got := fmt.Sprintf("%q", pusher.ids); got != `[""]` {
			t.Errorf("a PUSH said %s", got)
		}
	})
}
