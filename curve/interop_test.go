//go:build unix

package curve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

const (
	// patience is the time that anything may take that happens at once on an idle machine.
	patience = 30 * time.Second
	// moment is the time to wait for an event that may not happen.
	moment = 20 * time.Millisecond
)

// role is a side of CURVE.
type role bool

const (
	asClient role = false
	asServer role = true
)

func (r role) String() string {
	if r == asServer {
		return "server"
	}
	return "client"
}

// end is a socket of this library or of libzmq. Its methods fail the test on an error.
type end interface {
	listen() string
	connect(endpoint string)
	subscribe(topic string)
	trySend(parts ...[]byte) bool
	tryRecv(wait bool) ([][]byte, bool)
	close()
}

// ours are sockets of this library, with a common configuration except for the mechanism.
type ours struct {
	zmtp.Config
	auth zmtp.Auth
}

type ourEnd struct {
	t      *testing.T
	ctx    context.Context
	socket *zmtp.Socket
	any    any
}

func (o ours) open(t *testing.T, kind string, role role, k keys) *ourEnd {
	t.Helper()
	cfg := o.Config
	if role == asServer {
		cfg.Mechanism = newServer(t, o.auth, k.server).Mechanism
	} else {
		cfg.Mechanism = newClient(t, k.of, k.own).Mechanism
	}
	if cfg.ReconnectInterval == 0 {
		cfg.ReconnectInterval = 10 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	e := &ourEnd{t: t, ctx: ctx}
	switch kind {
	case "PUSH":
		s := zmtp.NewPush(cfg, zmtp.PushOptions{})
		e.any, e.socket = s, s.Socket
	case "PULL":
		s := zmtp.NewPull(cfg)
		e.any, e.socket = s, s.Socket
	case "PUB":
		s := zmtp.NewPub(cfg)
		e.any, e.socket = s, s.Socket
	case "SUB":
		s := zmtp.NewSub(cfg)
		e.any, e.socket = s, s.Socket
	case "XPUB":
		s := zmtp.NewXPub(cfg, zmtp.XPubOptions{})
		e.any, e.socket = s, s.Socket
	case "XSUB":
		s := zmtp.NewXSub(cfg)
		e.any, e.socket = s, s.Socket
	}
	t.Cleanup(func() { cancel(); e.close() })
	return e
}

func (e *ourEnd) close() { e.socket.Close() }

func (e *ourEnd) listen() string {
	e.t.Helper()
	bound, err := e.socket.Listen("tcp://127.0.0.1:*")
	if err != nil {
		e.t.Fatal(err)
	}
	return bound
}

func (e *ourEnd) connect(endpoint string) {
	e.t.Helper()
	if err := e.socket.Connect(endpoint); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ourEnd) subscribe(topic string) {
	e.t.Helper()
	if err := e.any.(interface{ Subscribe(string) error }).Subscribe(topic); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ourEnd) trySend(parts ...[]byte) bool {
	e.t.Helper()
	m := zmtp.NewMessage(parts...)
	var err error
	switch s := e.any.(type) {
	case interface {
		Send(context.Context, zmtp.Message) error
	}:
		err = s.Send(e.ctx, m)
	case interface{ Send(zmtp.Message) error }:
		err = s.Send(m)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return true
}

func (e *ourEnd) tryRecv(wait bool) ([][]byte, bool) {
	e.t.Helper()
	timeout := moment
	if wait {
		timeout = patience
	}
	ctx, cancel := context.WithTimeout(e.ctx, timeout)
	defer cancel()
	m, err := e.any.(interface {
		Recv(context.Context) (zmtp.Message, error)
	}).Recv(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, false
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return m.AppendParts(nil), true
}

// mustRecv waits for a message and compares it.
func mustRecv(t *testing.T, e end, want ...[]byte) {
	t.Helper()
	got, ok := e.tryRecv(true)
	if !ok {
		t.Fatal("no message arrives")
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d parts of %v bytes, want %d of %v", len(got), sizesOf(got), len(want),
			sizesOf(want))
	}
}

func sizesOf(parts [][]byte) (n []int) {
	for _, p := range parts[:min(len(parts), 10)] {
		n = append(n, len(p))
	}
	return n
}

func newKeys() keys {
	server, secret := GenerateKeyPair()
	_, own := GenerateKeyPair()
	return keys{server: secret, of: server, own: own}
}

// scenes plays a scene with a sender and a receiver in all eight arrangements: which of them is
// libzmq's, which is the server, and which listens.
func scenes(t *testing.T, p *peer, snd, rcv string, play func(t *testing.T, snd, rcv end)) {
	for _, weSend := range []bool{true, false} {
		for _, weAre := range []role{asClient, asServer} {
			for _, weListen := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s-%s/we send=%v/we are=%v/we listen=%v", snd, rcv, weSend,
					weAre, weListen),
					func(t *testing.T) {
						k := newKeys()
						kinds := [2]string{snd, rcv}
						if !weSend {
							kinds = [2]string{rcv, snd}
						}
						us := ours{auth: open}.open(t, kinds[0], weAre, k)
						them := p.open(t, kinds[1], !weAre, k, nil)
						if weListen {
							them.connect(us.listen())
						} else {
							us.connect(them.listen())
						}
						if weSend {
							play(t, us, them)
						} else {
							play(t, them, us)
						}
					})
			}
		}
	}
}

// partSizes are around all sizes at which the format changes: blocks of Salsa20, short and long
// headers.
var partSizes = []int{0, 1, 15, 16, 31, 32, 33, 95, 96, 97, 221, 222, 223, 254, 255, 256, 257, 511,
	1000, 8191, 8192, 65535, 65536, 1 << 20}

// exchange sends messages of all sizes and shapes, and waits for each.
func exchange(t *testing.T, snd, rcv end) {
	t.Helper()
	topic := []byte("topic")
	for _, n := range partSizes {
		snd.trySend(topic, []byte(testkit.Pattern(n)))
		mustRecv(t, rcv, topic, []byte(testkit.Pattern(n)))
	}
	for _, n := range []int{3, 40, 1000} {
		parts := [][]byte{topic}
		for i := range n {
			parts = append(parts, []byte(testkit.Pattern(i%300)))
		}
		snd.trySend(parts...)
		mustRecv(t, rcv, parts...)
	}
	// many messages at the same time
	const burst = 500
	for i := range burst {
		snd.trySend(topic, fmt.Append(nil, i), []byte(testkit.Pattern(i%400)))
	}
	for i := range burst {
		mustRecv(t, rcv, topic, fmt.Append(nil, i), []byte(testkit.Pattern(i%400)))
	}
}

func TestLibzmqPushPull(t *testing.T) {
	scenes(t, startPeer(t), "PUSH", "PULL", func(t *testing.T, snd, rcv end) {
		exchange(t, snd, rcv)
		big := []byte(testkit.Pattern(12 << 20))
		snd.trySend([]byte("topic"), big)
		mustRecv(t, rcv, []byte("topic"), big)
	})
}

func TestLibzmqPubSub(t *testing.T) {
	scenes(t, startPeer(t), "PUB", "SUB", func(t *testing.T, snd, rcv end) {
		rcv.subscribe("to")
		rcv.subscribe("\xff")
		// A PUB does not report when it has got a subscription.
		for {
			snd.trySend([]byte("\xffprobe"))
			if _, ok := rcv.tryRecv(false); ok {
				break
			}
			if t.Context().Err() != nil {
				t.Fatal("no subscription arrives")
			}
		}
		snd.trySend([]byte("nobody wants this"))
		snd.trySend([]byte("\xffsettled"))
		for {
			m, ok := rcv.tryRecv(true)
			if !ok {
				t.Fatal("no message arrives")
			}
			if string(m[0]) == "\xffsettled" {
				break
			}
			if string(m[0]) != "\xffprobe" {
				t.Fatalf("received %q", m)
			}
		}
		exchange(t, snd, rcv)
	})
}

func TestLibzmqXPubXSub(t *testing.T) {
	scenes(t, startPeer(t), "XPUB", "XSUB", func(t *testing.T, snd, rcv end) {
		// Subscriptions as messages of the application, as Zeek and brokers send them, with a long
		// one too.
		for _, topic := range [][]byte{
			[]byte("to"), {}, []byte(testkit.Pattern(300)), []byte(testkit.Pattern(70)),
		} {
			rcv.trySend(append([]byte{1}, topic...))
			mustRecv(t, snd, append([]byte{1}, topic...))
		}
		exchange(t, snd, rcv)
		rcv.trySend([]byte("\x00to"))
		mustRecv(t, snd, []byte("\x00to"))
		rcv.trySend([]byte{0})
		mustRecv(t, snd, []byte{0})
		snd.trySend([]byte("nobody wants this"))
		rcv.trySend([]byte("\x01last"))
		mustRecv(t, snd, []byte("\x01last"))
		snd.trySend([]byte("last"))
		mustRecv(t, rcv, []byte("last"))
	})
}

// Heartbeats go inside MESSAGE in both directions, and the connection outlives many timeouts.
func TestLibzmqHeartbeats(t *testing.T) {
	const interval = 50 * time.Millisecond
	p := startPeer(t)
	for _, weAre := range []role{asClient, asServer} {
		t.Run(weAre.String(), func(t *testing.T) {
			k := newKeys()
			cfg := zmtp.Config{HeartbeatInterval: interval, HeartbeatTimeout: 20 * interval,
				HeartbeatTTL: 40 * interval}
			us := ours{Config: cfg, auth: open}.open(t, "PULL", weAre, k)
			monitor := us.socket.Monitor(1000)
			them := p.open(t, "PUSH", !weAre, k, testkit.Args{
				"HEARTBEAT_IVL":     interval.Milliseconds(),
				"HEARTBEAT_TIMEOUT": 20 * interval.Milliseconds(),
				"HEARTBEAT_TTL":     40 * interval.Milliseconds(),
			})
			us.connect(them.listen())
			them.trySend([]byte("up"))
			mustRecv(t, us, []byte("up"))
			quiet := time.After(60 * interval)
			for end := false; !end; {
				select {
				case e := <-monitor.Events():
					if e.Type == zmtp.EventDisconnected {
						t.Fatalf("disconnected: %v", e.Err)
					}
				case <-quiet:
					end = true
				}
			}
			them.trySend([]byte("still up"))
			mustRecv(t, us, []byte("still up"))
		})
	}
}

const (
	eventSucceeded      = uint16(zmtp.EventHandshakeSucceeded)
	eventFailedNoDetail = uint16(zmtp.EventHandshakeFailedNoDetail)
	eventFailedProtocol = uint16(zmtp.EventHandshakeFailedProtocol)
	eventFailedAuth     = uint16(zmtp.EventHandshakeFailedAuth)
)

// libzmq's client meets this library's server. The test compares the client's event and the
// server's counts.
func TestLibzmqClientsThatAreRefused(t *testing.T) {
	p := startPeer(t)
	handler := func(status int) zmtp.Auth {
		return zmtp.Auth{Handler: zap.HandlerFunc(func(context.Context, *zap.Request) (zap.Reply,
			error) {
			return zap.Reply{Status: status}, nil
		})}
	}
	for name, c := range map[string]struct {
		auth   zmtp.Auth
		spoil  func(*keys)
		event  uint16
		value  uint32 // 0: any value
		reason wire.Reason
	}{
		"another server's key": {open, func(k *keys) { k.of, _ = GenerateKeyPair() },
			eventFailedNoDetail,
			0, wire.Cryptographic},
		"status 300": {handler(300), nil, eventFailedNoDetail, 0, wire.AuthRefused},
		"status 400": {handler(400), nil, eventFailedAuth, 400, wire.AuthRefused},
		"status 500": {handler(500), nil, eventFailedAuth, 500, wire.AuthRefused},
		"status 200": {handler(200), nil, eventSucceeded, 0, wire.ReasonNone},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeys()
			us := ours{auth: c.auth}.open(t, "PULL", asServer, k)
			if c.spoil != nil {
				c.spoil(&k)
			}
			them := p.open(t, "PUSH", asClient, k, nil)
			them.call("monitor", testkit.Args{"name": them.name})
			them.connect(us.listen())
			event, value := them.event(eventFailedNoDetail, eventFailedProtocol, eventFailedAuth,
				eventSucceeded)
			if event != c.event || c.value != 0 && value != c.value {
				t.Errorf("the client's event is %#x (%d), want %#x (%d)", event, value, c.event,
					c.value)
			}
			testkit.Eventually(t, c.reason.String(), func() bool {
				st := us.socket.Stats()
				if c.reason == wire.ReasonNone {
					return st.Handshakes == 1 && len(st.HandshakeFailures) == 0
				}
				return st.Handshakes == 0 && st.HandshakeFailures[c.reason] > 0
			})
		})
	}
}

// This library's client meets a libzmq server whose key it does not know.
func TestLibzmqServerWithAnotherKey(t *testing.T) {
	p := startPeer(t)
	k := newKeys()
	them := p.open(t, "PULL", asServer, k, nil)
	them.call("monitor", testkit.Args{"name": them.name})
	k.of, _ = GenerateKeyPair()
	us := ours{}.open(t, "PUSH", asClient, k)
	us.connect(them.listen())
	if event, value := them.event(eventFailedProtocol, eventSucceeded,
		eventFailedNoDetail); event != eventFailedProtocol || value != 0x11000001 {
		t.Errorf("the server's event is %#x (%#x)", event, value)
	}
}

// pyzmq reads the certificates that this library writes, and the other way round.
func TestCertificatesOfPyzmq(t *testing.T) {
	dir := t.TempDir()
	k, s := GenerateKeyPair()
	c := Certificate{Public: k, Secret: &s, Metadata: []CertificateProperty{{"name", "worker 1"}}}
	path := filepath.Join(dir, "ours.key")
	if err := c.WriteFiles(path, time.Now()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(testkit.Python(t), "-c", `
import sys, zmq.auth
for name in sys.argv[2:]:
    public, secret = zmq.auth.load_certificate(name)
    print(public.decode(), (secret or b"").decode())
zmq.auth.create_certificates(sys.argv[1], "theirs", {"name": "worker 2", "email": "a@example.org"})
`, dir, path, path+"_secret").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := fmt.Sprintf("%s \n%[1]s %s\n", k, s.Text()); string(out) != want {
		t.Errorf("pyzmq reads\n%s\nwant\n%s", out, want)
	}
	path = filepath.Join(dir, "theirs.key")
	if err := os.Chmod(path+"_secret", 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := ReadCertificate(path + "_secret")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ReadCertificate(path)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Secret == nil || public.Secret != nil || pair.Public != public.Public ||
		pair.Name() != "worker 2" {
		t.Errorf("%+v and %+v", pair, public)
	}
}
