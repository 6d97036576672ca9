package gateway

import (
	"encoding/json"
	"math"
	"unicode/utf8"

	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"zmtpd/forwarder"
	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

// served is a Gateway with its Forwarder on loopback.
type served struct {
	*Gateway
	f          *forwarder.Forwarder
	address    string
	xsub, xpub string
}

// serve starts a Gateway that ends with the test.
func serve(t testing.TB, cfg Config) *served {
	t.Helper()
	s := &served{f: forwarder.New(forwarder.Config{Logger: cfg.Logger})}
	var err error
	if s.Gateway, err = New(s.f, cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.Serve(smallBuffers{l})
	if s.xsub, err = s.f.ListenXSub("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	if s.xpub, err = s.f.ListenXPub("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t) })
	return s
}

func (s *served) end(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := s.f.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	s.accounted(t)
}

// smallBuffers makes connections for which the kernel keeps little, so that a client that does not
// read has an effect soon.
type smallBuffers struct{ net.Listener }

const kernelBuffer = 64 << 10

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(kernelBuffer)
	}
	return c, err
}

// smallClient makes connections with small buffers.
var smallClient = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(kernelBuffer)
		}
		return c, err
	}}}

// connection is a WebSocket client.
type connection struct {
	*websocket.Conn
	t   testing.TB
	ctx context.Context
}

// dial connects to a path. header are pairs of name and value.
func (s *served) dial(t testing.TB, path string, header ...string) *connection {
	t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	ctx := testContext(t)
	c, r, err := websocket.Dial(ctx, "ws://"+s.address+path, &websocket.DialOptions{HTTPHeader: h,
		HTTPClient: smallClient})
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return &connection{c, t, ctx}
}

// subscribed connects, subscribes and waits for the acknowledgement.
func (s *served) subscribed(t testing.TB, topics ...string) *connection {
	t.Helper()
	c := s.dial(t, Path)
	c.send(`["` + strings.Join(topics, `","`) + `"]`)
	if len(topics) == 0 {
		t.Fatal("use publisher")
	}
	c.acknowledged()
	return c
}

// publisher connects without subscriptions.
func (s *served) publisher(t testing.TB, header ...string) *connection {
	t.Helper()
	c := s.dial(t, Path, header...)
	c.send("[]")
	c.acknowledged()
	return c
}

func (c *connection) acknowledged() {
	c.t.Helper()
	if text := c.receive(); !strings.HasPrefix(text, `{"type":"ack","endpoint":"zmtpd_gateway_`) {
		c.t.Fatalf("no acknowledgement: %s", text)
	}
}

func (c *connection) send(text string) {
	c.t.Helper()
	if err := c.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *connection) receive() string {
	c.t.Helper()
	_, text, err := c.Read(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// closed waits until the server closes the connection with that code, and returns the reason.
func (c *connection) closed(code websocket.StatusCode) string {
	c.t.Helper()
	for {
		_, _, err := c.Read(c.ctx)
		if err == nil {
			continue
		}
		if got := websocket.CloseStatus(err); got != code {
			c.t.Fatalf("closed with %v, want code %v", err, code)
		}
		return err.Error()
	}
}

// ping is the text of an event ping(text, n).
func ping(topic, text string, n int) string {
	body, err := event.AppendEvent(nil, "ping", []any{text, uint64(n)})
	if err != nil {
		panic(err)
	}
	return string(event.AppendMessage(nil, []byte(topic), body))
}

// refusedOnce waits until a reason was counted.
func (s *served) refusedOnce(t testing.TB, r Reason) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("refusal %v", r), func() bool {
		return s.Stats().Refused[r] > 0
	})
}

// node is a Zeek node with real connections.
type node struct {
	t   testing.TB
	pub *zmtp.XPub
	sub *zmtp.Sub
}

// node connects a node that subscribes topics.
func (s *served) node(t testing.TB, topics ...string) *node {
	t.Helper()
	n := &node{t, zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{}), zmtp.NewSub(zmtp.Config{})}
	t.Cleanup(func() {
		n.pub.Close()
		n.sub.Close()
	})
	for _, topic := range topics {
		if err := n.sub.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.pub.Connect(s.xsub); err != nil {
		t.Fatal(err)
	}
	if err := n.sub.Connect(s.xpub); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the node", func() bool {
		st := s.f.Stats()
		return len(st.Publishers) == 1 && st.Topics >= len(topics)
	})
	return n
}

// awaitSubscription waits until the node's publisher knows of a topic.
func (n *node) awaitSubscription(topic string) {
	n.t.Helper()
	ctx := testContext(n.t)
	for {
		m, err := n.pub.Recv(ctx)
		if err != nil {
			n.t.Fatal(err)
		}
		if string(m.Part(0)) == "\x01"+topic {
			return
		}
	}
}

func (n *node) publish(topic, name string, args ...any) {
	n.t.Helper()
	body, err := event.AppendEvent(nil, name, args)
	if err != nil {
		n.t.Error(err)
	}
	n.send(topic, body)
}

func (n *node) send(topic string, body []byte) {
	m := zmtp.NewMessage([]byte(topic), []byte("zeromq_worker-1_x_1_N"),
		[]byte(event.BinaryName), body)
	if err := n.pub.Send(context.Background(), m); err != nil {
		n.t.Error(err)
	}
}

// accounted fails unless the Gateway, which is at rest, knows what became of every event.
func (s *served) accounted(t testing.TB) {
	t.Helper()
	st := s.Stats()
	sum := uint64(st.Queued) + st.Dropped[QueueFull] + st.Dropped[Closing]
	for _, c := range st.ByClient {
		sum += c.Out.Messages
	}
	if sum != st.Matched {
		t.Errorf("%d events for clients, and %d are accounted for: %+v", st.Matched, sum, st)
	}
}

func messageOf(parts [][]byte) zmtp.Message { return zmtp.NewMessage(parts...) }

func isValidJSON(text []byte) bool { return json.Valid(text) && utf8.Valid(text) }

// inf returns an infinite number with a sign, or NaN for 0.
func inf(sign int) float64 {
	if sign == 0 {
		return math.NaN()
	}
	return math.Inf(sign)
}
