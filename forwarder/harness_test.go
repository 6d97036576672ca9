package forwarder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// Endpoints of a broker in memory.
const (
	xsubAddr = "10.0.0.1:5556"
	xpubAddr = "10.0.0.1:5555"
)

// defaultBudget is the default time of each holdWindow for which subscribers may hold up a
// publisher.
const defaultBudget = time.Duration(DefaultWaitShare * float64(holdWindow))

// broker is a Forwarder on a network in memory, for use in a bubble of testing/synctest.
type broker struct {
	*Forwarder
	net  zmtptest.Network
	logs *logBook
}

// newBroker starts a broker that ends with the test.
func newBroker(t testing.TB, cfg Config) *broker {
	t.Helper()
	n := &broker{logs: new(logBook)}
	cfg.Logger = n.logs.logger()
	n.Forwarder = New(cfg)
	for addr, serve := range map[string]func(net.Listener) (string, error){
		xsubAddr: n.ServeXSub, xpubAddr: n.ServeXPub,
	} {
		l, err := n.net.Listen(addr)
		if err == nil {
			_, err = serve(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// letSleepersEnd lets the goroutines of a bubble that sleep between two reads see the end of their
// connections, when the test has closed them. They would sleep for ever: in a bubble time stops
// with the end of the test's function and its cleanup.
func letSleepersEnd(t *testing.T) {
	t.Cleanup(func() { time.Sleep(time.Minute) })
}

// peerConfig is the configuration of a socket that connects to the broker.
func (n *broker) peerConfig() zmtp.Config {
	return zmtp.Config{Dial: func(ctx context.Context, _, addr string) (net.Conn,
		error) {
		return n.net.Dial(ctx, addr)
	}}
}

// youngest returns the youngest subscriber in Stats.
func (n *broker) youngest(t testing.TB) SubscriberStats {
	t.Helper()
	subs := n.Stats().Subscribers
	if len(subs) == 0 {
		t.Fatal("there is no subscriber")
	}
	return slices.MaxFunc(subs, func(a, b SubscriberStats) int { return int(a.ID) - int(b.ID) })
}

// raw is a scripted peer: it writes and reads only what the test tells it.
type raw struct {
	net.Conn
	t testing.TB
}

// dialRaw connects to one side of the broker and completes the handshake.
func (n *broker) dialRaw(t testing.TB, addr string, typ wire.SocketType) *raw {
	t.Helper()
	c, err := n.net.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return handshake(t, c, typ)
}

// handshake does the handshake of a NULL connection.
func handshake(t testing.TB, c net.Conn, typ wire.SocketType) *raw {
	t.Helper()
	r := &raw{c, t}
	hello := wire.AppendGreeting(nil, "NULL", false)
	ready := wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(typ)))
	r.write(append(hello, ready...))
	if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	if flags, body := zmtptest.NewRaw(t, c).ReadFrame(); flags != 4 ||
		!bytes.HasPrefix(body, []byte("\x05READY")) {
		t.Fatalf("expected READY, got flags %#x, %q", flags, body)
	}
	c.SetDeadline(time.Time{})
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Error(err)
	}
}

func (r *raw) subscribe(topic string, on bool) {
	r.t.Helper()
	r.write(wire.AppendSubscription(nil, false, on, []byte(topic)))
}

func (r *raw) send(parts ...string) {
	r.t.Helper()
	r.write(zmtp.NewMessageString(parts...).Wire())
}

// messages splits b, which must be whole messages except for the last one.
func messages(t testing.TB, b []byte) (all []zmtp.Message) {
	t.Helper()
	var d wire.Decoder
	for len(b) > 0 {
		it, err := d.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if it.Kind == wire.NeedMore {
			break
		}
		if it.Kind == wire.AMessage {
			m, err := zmtp.ParseMessage(b[:it.Size])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		b = b[it.From:it.To]
	}
	return all
}

// collector keeps everything that a socket receives, in the background.
type collector struct {
	mu  sync.Mutex
	got []string // parts joined with "|"
}

type receiver interface {
	Recv(context.Context) (zmtp.Message, error)
}

// collect starts to receive from s, until s is closed.
func collect(s receiver) *collector {
	c := new(collector)
	go c.receive(s)
	return c
}

// receive keeps what s receives until s is closed.
func (c *collector) receive(s receiver) {
	for {
		m, err := s.Recv(context.Background())
		if err != nil {
			return
		}
		c.add(m)
	}
}

// read keeps the messages on a raw connection until it is closed.
func (c *collector) read(t testing.TB, r io.Reader) {
	var b []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		b = append(b, buf[:n]...)
		for _, m := range messages(t, b) {
			c.add(m)
			b = b[len(m.Wire()):]
		}
		if err != nil {
			return
		}
	}
}

func (c *collector) add(m zmtp.Message) {
	parts := m.AppendParts(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, string(bytes.Join(parts, []byte("|"))))
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// sequence returns the strings "topic|from" to "topic|to-1".
func sequence(topic string, from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%s|%d", topic, i))
	}
	return all
}

// accounted fails the test unless the accounts of f, which is at rest, add up.
func accounted(t testing.TB, f *Forwarder) {
	t.Helper()
	if err := f.Stats().CheckAccounts(); err != nil {
		t.Error(err)
	}
}

// joined returns messages, in the form of a collector, in wire form.
func joined(msgs []string) []byte {
	var b []byte
	for _, m := range msgs {
		b = append(b, zmtp.NewMessageString(strings.Split(m, "|")...).Wire()...)
	}
	return b
}

// equal fails the test unless got is equal to want.
func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: %d messages, want %d, the first difference is at %d: %.5q, want %.5q", what,
		len(got), len(want), i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
}

// logBook keeps the lines at level Warn and above.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

// matching returns the lines that contain all of the words.
func (l *logBook) matching(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found
}
