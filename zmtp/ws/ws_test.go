package ws

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/ws/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mechanisms has both sides of each mechanism.
type sides struct {
	server, client func(zmtp.Metadata) zmtp.Mechanism
}

func mechanisms(t *testing.T) map[string]sides {
	t.Helper()
	auth := zmtp.Auth{Open: true}
	key, secret := curve.GenerateKeyPair()
	server, err := curve.NewServer(auth, secret)
	if err != nil {
		t.Fatal(err)
	}
	_, secret = curve.GenerateKeyPair()
	client, err := curve.NewClient(key, secret)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]sides{
		"NULL": {},
		"PLAIN": {(&zmtp.PlainServer{Auth: auth}).Mechanism,
			(&zmtp.PlainClient{User: "u", Password: "p"}).Mechanism},
		"CURVE": {server.Mechanism, client.Mechanism},
	}
}

// certificate returns the TLS configurations of a server on the loopback and of its clients.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true,
		BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{
		{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func config(o Options, mechanism func(zmtp.Metadata) zmtp.Mechanism) zmtp.Config {
	return zmtp.Config{Transports: Transports(o), Mechanism: mechanism}
}

func shutdown(t *testing.T, s interface{ Shutdown(context.Context) error }) {
	t.Helper()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// sizes are those at which a header changes, for WebSocket and for ZMTP.
var sizes = []int{0, 1, 123, 124, 125, 126, 254, 255, 256, 4090, 65534, 65535, 65536, 1 << 20}

// Messages of all sizes go both ways over ws and wss, with each mechanism, and what was sent before
// Shutdown arrives.
func TestConversation(t *testing.T) {
	server, client := certificate(t)
	for name, m := range mechanisms(t) {
		for _, scheme := range []string{"ws", "wss"} {
			t.Run(scheme+"/"+name, func(t *testing.T) {
				front := zmtp.NewDealer(config(Options{TLS: server}, m.server), zmtp.DealerOptions{})
				defer front.Close()
				bound, err := front.Listen(scheme + "://127.0.0.1:*/zeromq")
				if err != nil {
					t.Fatal(err)
				}
				back := zmtp.NewDealer(config(Options{TLS: client}, m.client), zmtp.DealerOptions{})
				if err := back.Connect(bound); err != nil {
					t.Fatal(err)
				}
				for _, n := range sizes {
					m := zmtp.NewMessageString(testkit.Pattern(n), "", testkit.Pattern(n))
					if err := back.Send(testkit.Context(t), m); err != nil {
						t.Fatal(err)
					}
					got, err := front.Recv(testkit.Context(t))
					if err != nil || string(got.Wire()) != string(m.Wire()) {
						t.Fatalf("%d bytes: received %d, %v", n, got.Size(), err)
					}
					if err := front.Send(testkit.Context(t), got); err != nil {
						t.Fatal(err)
					}
					got, err = back.Recv(testkit.Context(t))
					if err != nil || string(got.Wire()) != string(m.Wire()) {
						t.Fatalf("%d bytes: received %d back, %v", n, got.Size(), err)
					}
				}
				const last = 900
				for range last {
					if err := back.Send(testkit.Context(t), zmtp.NewMessageString("last")); err != nil {
						t.Fatal(err)
					}
				}
				shutdown(t, back)
				for range last {
					if _, err := front.Recv(testkit.Context(t)); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// Subscriptions arrive in the form of ZMTP 3.0, with CURVE too.
func TestSubscriptions(t *testing.T) {
	for name, m := range mechanisms(t) {
		t.Run(name, func(t *testing.T) {
			xpub := zmtp.NewXPub(config(Options{}, m.server), zmtp.XPubOptions{})
			defer xpub.Close()
			bound, err := xpub.Listen("ws://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			sub := zmtp.NewSub(config(Options{}, m.client))
			defer sub.Close()
			if err := sub.Subscribe("topic"); err != nil {
				t.Fatal(err)
			}
			if err := sub.Connect(bound); err != nil {
				t.Fatal(err)
			}
			if m, err := xpub.Recv(testkit.Context(t)); err != nil || string(m.Part(0)) != "\x01topic" {
				t.Fatalf("%v, %v", m, err)
			}
			if err := xpub.Send(testkit.Context(t), zmtp.NewMessageString("topic", "text")); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Recv(testkit.Context(t)); err != nil {
				t.Fatal(err)
			}
			if err := sub.Unsubscribe("topic"); err != nil {
				t.Fatal(err)
			}
			if m, err := xpub.Recv(testkit.Context(t)); err != nil || string(m.Part(0)) != "\x00topic" {
				t.Fatalf("%v, %v", m, err)
			}
		})
	}
}

// recorder is a connection that keeps what was read from it.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	all []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, b[:n]...)
	return n, err
}

// frames counts the frames of a server in what was read.
func (r *recorder) frames(op frame.Opcode) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, rest, _ := bytes.Cut(r.all, []byte("\r\n\r\n"))
	for {
		h, m, err := frame.ParseHeader(rest, false)
		if err != nil || m == 0 || int64(len(rest)-m) < h.Size {
			return n
		}
		if h.Op == op {
			n++
		}
		rest = rest[m+int(h.Size):]
	}
}

// Heartbeats are frames of WebSocket in both directions and keep an idle connection up, although
// CURVE does not see them.
func TestHeartbeats(t *testing.T) {
	for name, m := range mechanisms(t) {
		t.Run(name, func(t *testing.T) {
			front := config(Options{}, m.server)
			front.HeartbeatInterval, front.HeartbeatTimeout = 5*time.Millisecond, testkit.Patience
			pull := zmtp.NewPull(front)
			defer pull.Close()
			bound, err := pull.Listen("ws://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			var conn recorder
			back := config(Options{}, m.client)
			back.HeartbeatInterval, back.HeartbeatTimeout = 5*time.Millisecond, testkit.Patience
			back.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if conn.Conn != nil {
					return nil, errors.New("only one connection")
				}
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				conn.Conn = c
				return &conn, err
			}
			push := zmtp.NewPush(back, zmtp.PushOptions{})
			defer push.Close()
			if err := push.Connect(bound); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "PINGs and PONGs in both directions", func() bool {
				return conn.frames(frame.Ping) >= 3 && conn.frames(frame.Pong) >= 3
			})
			if err := push.Send(testkit.Context(t), zmtp.NewMessageString("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := pull.Recv(testkit.Context(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tlsSniffer notes the largest TLS record that is written to a connection.
type tlsSniffer struct {
	net.Conn
	largest *atomic.Int64
}

// Write is called by crypto/tls for each record.
func (s tlsSniffer) Write(b []byte) (int, error) {
	for rest := b; len(rest) >= 5; {
		n := int64(rest[3])<<8 | int64(rest[4])
		s.largest.Store(max(s.largest.Load(), n))
		rest = rest[min(int64(len(rest)), 5+n):]
	}
	return s.Conn.Write(b)
}

// TLS records are so small that libzmq reads each of them at once.
func TestTLSRecords(t *testing.T) {
	server, client := certificate(t)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var largest atomic.Int64
	front := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer front.Close()
	if _, err := front.Serve(NewListener(tls.NewListener(sniffed{raw, &largest}, server),
		Options{})); err != nil {
		t.Fatal(err)
	}
	back := zmtp.NewPull(config(Options{TLS: client}, nil))
	defer back.Close()
	if err := back.Connect("wss://" + raw.Addr().String()); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	if err := front.Send(testkit.Context(t), zmtp.NewMessage(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	if m, err := back.Recv(testkit.Context(t)); err != nil || len(m.Part(0)) != size {
		t.Fatalf("%d bytes, %v", m.Size(), err)
	}
	const overhead = 256 // of encryption (RFC 8446, section 5.2)
	if n := largest.Load(); n == 0 || n > 8192+overhead {
		t.Errorf("a record has %d bytes", n)
	}
}

// sniffed is a listener with a tlsSniffer for each connection.
type sniffed struct {
	net.Listener
	largest *atomic.Int64
}

func (l sniffed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tlsSniffer{c, l.largest}, nil
}
