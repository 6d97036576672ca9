package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/testkit"
)

// TestOwnEvents: a client does not get its own events, and others do.
func TestOwnEvents(t *testing.T) {
	g := serve(t, Config{})
	a, b := g.subscribed(t, "/test/"), g.subscribed(t, "/test/", "")
	own, other := ping("/test/own/", "own", 1), ping("/test/other/", "other", 2)
	a.send(own)
	if got := b.receive(); got != own {
		t.Errorf("received %s, want %s", got, own)
	}
	b.send(other)
	if got := a.receive(); got != other {
		t.Errorf("received %s, want %s", got, other)
	}
	st := g.Stats()
	if in := st.ByTopic["/test/own/"].In; in != 1 {
		t.Errorf("%d events in topic /test/own/, want 1", in)
	}
	testkit.Eventually(t, "two events out", func() bool {
		st := g.Stats()
		return st.ByTopic["/test/own/"].Out == 1 && st.ByTopic["/test/other/"].Out == 1
	})
}

// TestSubscriptions: the broker has each topic once, as long as a client subscribes it.
func TestSubscriptions(t *testing.T) {
	g := serve(t, Config{})
	a, b := g.subscribed(t, "x.", "y."), g.subscribed(t, "x.", "x.")
	if n := g.f.Stats().Topics; n != 2 {
		t.Errorf("%d topics, want 2", n)
	}
	a.Close(websocket.StatusNormalClosure, "")
	testkit.Eventually(t, "one topic", func() bool { return g.f.Stats().Topics == 1 })
	b.Close(websocket.StatusNormalClosure, "")
	testkit.Eventually(t, "no topic", func() bool { return g.f.Stats().Topics == 0 })
	testkit.Eventually(t, "no client", func() bool { return g.Stats().Connections == 0 })
}

// TestFormats: clients get events of both formats, and only events.
func TestFormats(t *testing.T) {
	g := serve(t, Config{})
	c := g.subscribed(t, "t")
	n := g.node(t)
	n.awaitSubscription("t")
	n.send("t", []byte("\x0e\x00")) // a vector, no event
	n.publish("t", "binary", uint64(1))
	body, _ := event.AppendEvent(nil, "json", nil)
	m := [][]byte{[]byte("t"), []byte("n"), []byte(event.JSONName), event.AppendJSON(nil, body)}
	if err := n.pub.Send(testkit.Context(t), messageOf(m)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"binary", "json"} {
		if got := c.receive(); !strings.Contains(got, `"data":"`+name+`"`) {
			t.Errorf("received %s, want event %s", got, name)
		}
	}
	if n := g.Stats().Dropped[NotAnEvent]; n != 1 {
		t.Errorf("%d messages were no event, want 1", n)
	}
}

// TestText: what clients get is JSON also where Zeek's would not be.
func TestText(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{"plain \u00fc \\v \n", `"plain ü \\v \n"`},
		{"\x00\x1f\v\x7f", "\"\\u0000\\u001f\\u000b\x7f\""},
		{"\xff and \xc3\xbc", `"\\xff and ü"`},
		{[]any{true, false, inf(1), inf(-1), inf(0)}, ""},
	} {
		body, err := event.AppendEvent(nil, "e", []any{event.Vector{tt.value}})
		if err != nil {
			t.Fatal(err)
		}
		text := appendText(nil, []byte("t\xff:nv"), body)
		if !isValidJSON(text) {
			t.Errorf("not JSON: %s", text)
		}
		if !strings.Contains(string(text), tt.want) {
			t.Errorf("%s has no %s", text, tt.want)
		}
	}
}

// TestQueuePolicies: a client that does not read loses events or its connection, and nobody else
// does.
func TestQueuePolicies(t *testing.T) {
	for _, policy := range []Policy{DropOldest, Wait, Disconnect} {
		t.Run(policy.String(), func(t *testing.T) {
			g := serve(t, Config{Overload: policy, QueueMessages: 20, PingInterval: -1,
				WaitShare: 0.02, MaxMessageSize: 1 << 20})
			slow, healthy := g.subscribed(t, "t"), g.subscribed(t, "t")
			publisher := g.publisher(t)
			const events = 100
			body := strings.Repeat("x", 20<<10)
			for i := range events {
				want := ping("t", body, i)
				publisher.send(want)
				if got := healthy.receive(); got != want {
					t.Fatalf("event %d: received another one of %d bytes", i, len(got))
				}
			}
			st := g.Stats()
			if policy == Disconnect {
				testkit.Eventually(t, "the slow client is closed", func() bool {
					st = g.Stats()
					return st.Clients == 2
				})
				if st.Refused[SlowClient] != 1 {
					t.Errorf("refused %v, want one slow_client", st.Refused)
				}
				return
			}
			if st.Dropped[QueueFull] == 0 {
				t.Fatal("the slow client lost nothing")
			}
			// It reads again, and gets the newest.
			newest := fmt.Sprintf(`"data":%d}]`, events-1)
			for !strings.Contains(slow.receive(), newest) {
			}
		})
	}
}

// TestShutdown: clients get what waits for them, and are closed as Zeek does it.
func TestShutdown(t *testing.T) {
	g := serve(t, Config{})
	c, idle := g.subscribed(t, "t"), g.dial(t, Path)
	p := g.publisher(t)
	const events = 500
	for i := range events {
		p.send(ping("t", "x", i))
	}
	testkit.Eventually(t, "the events are published", func() bool {
		return g.Stats().ByTopic["t"].In == events
	})
	ended := make(chan struct{})
	go func() { defer close(ended); g.end(t) }()
	for i := range events {
		if got := c.receive(); got != ping("t", "x", i) {
			t.Fatalf("event %d: received %s", i, got)
		}
	}
	for _, c := range []*connection{c, idle} {
		if reason := c.closed(websocket.StatusGoingAway); !strings.Contains(reason, "Terminating") {
			t.Errorf("the reason is %s", reason)
		}
	}
	testkit.Done(t, "Shutdown", ended)
	if st := g.Stats(); st.Connections != 0 || g.f.Stats().Topics != 0 {
		t.Errorf("%d connections are left, and %d topics", st.Connections, g.f.Stats().Topics)
	}
}

// TestShutdownCut: a client that does not read does not hold the end up.
func TestShutdownCut(t *testing.T) {
	g := serve(t, Config{PingInterval: -1})
	g.subscribed(t, "t")
	p := g.publisher(t)
	body := strings.Repeat("x", 50<<10)
	for i := range 50 {
		p.send(ping("t", body, i))
	}
	testkit.Eventually(t, "events wait", func() bool { return g.Stats().Queued > 10 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	g.f.Close()
	g.Shutdown(ctx)
	g.accounted(t)
	if st := g.Stats(); st.Queued != 0 || st.Dropped[Closing] == 0 {
		t.Errorf("%d events wait, %d were given up", st.Queued, st.Dropped[Closing])
	}
}

// TestPingTimeout: a client that does not answer pings is closed, one that does is not.
func TestPingTimeout(t *testing.T) {
	g := serve(t, Config{PingInterval: 300 * time.Millisecond})
	deaf := g.subscribed(t, "t") // it does not read
	alive := g.subscribed(t, "t")
	go func() {
		for {
			if _, _, err := alive.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	g.refusedOnce(t, PingTimeout)
	reason := deaf.closed(websocket.StatusInternalError)
	if !strings.Contains(reason, "Ping timeout") {
		t.Errorf("the reason is %s", reason)
	}
}

// TestMemory: what waits for clients counts once in the budget, and is released.
func TestMemory(t *testing.T) {
	budget := memory.New(1<<30, nil)
	g := serve(t, Config{Memory: budget, PingInterval: -1})
	a, b := g.subscribed(t, "t"), g.subscribed(t, "t")
	p := g.publisher(t)
	const events, size = 40, 40 << 10
	body := strings.Repeat("x", size)
	for i := range events {
		p.send(ping("t", body, i))
	}
	testkit.Eventually(t, "events wait", func() bool { return g.Stats().Queued > events })
	held := budget.Stats().ByKind["websocket events"]
	if held < events*size/4 || held > 2*events*size {
		t.Errorf("%d bytes are reserved for %d events of %d bytes", held, events, size)
	}
	for _, c := range []*connection{a, b} {
		for range events {
			c.receive()
		}
	}
	testkit.Eventually(t, "the memory is released", func() bool {
		kinds := budget.Stats().ByKind
		return kinds["websocket events"] == 0 && kinds["websocket backlog"] == 0
	})
	g.end(t)
	if used := budget.Stats().Used; used != 0 {
		t.Errorf("%d bytes are used at the end: %v", used, budget.Stats().ByKind)
	}
}

// TestLimits: connections beyond a limit are closed at once, and places become free.
func TestLimits(t *testing.T) {
	g := serve(t, Config{MaxClients: 3, MaxClientsPerAddress: 2})
	a, _ := g.subscribed(t, "t"), g.subscribed(t, "t")
	_, _, err := websocket.Dial(testContext(t), "ws://"+g.address+Path, nil)
	if err == nil {
		t.Fatal("a third client of the address was accepted")
	}
	if st := g.Stats(); st.Refused[TooManyPerAddress] != 1 {
		t.Errorf("refused %v", st.Refused)
	}
	a.Close(websocket.StatusNormalClosure, "")
	testkit.Eventually(t, "a free place", func() bool { return g.Stats().Connections == 1 })
	g.subscribed(t, "t")
	g.Reconfigure(Config{MaxClients: 2, MaxClientsPerAddress: 10})
	if _, _, err := websocket.Dial(testContext(t), "ws://"+g.address+Path, nil); err == nil {
		t.Fatal("a third client was accepted")
	}
	if st := g.Stats(); st.Refused[TooManyClients] != 1 {
		t.Errorf("refused %v", st.Refused)
	}
}

// TestReadTimeout: a connection that sends no request, or no subscriptions, does not stay.
func TestReadTimeout(t *testing.T) {
	g := serve(t, Config{HandshakeTimeout: 200 * time.Millisecond})
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := g.dial(t, Path)
	c.closed(websocket.StatusPolicyViolation)
	if n := g.Stats().Refused[NoSubscriptions]; n != 1 {
		t.Errorf("%d clients without subscriptions were closed, want 1", n)
	}
	conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("a connection without a request: %v", err)
	}
	testkit.Eventually(t, "no connection", func() bool { return g.Stats().Connections == 0 })
}

// TestMemoryExhausted: clients that leave large messages unfinished wait for memory, and the budget
// closes them; a client with small messages goes on.
func TestMemoryExhausted(t *testing.T) {
	budget := memory.New(8<<20, nil)
	g := serve(t, Config{Memory: budget, PingInterval: -1})
	for range 8 {
		c := g.publisher(t)
		go func() { // it blocks when the gateway does not read
			if w, err := c.Writer(c.ctx, websocket.MessageText); err == nil {
				w.Write([]byte(strings.Repeat(" ", 1000<<10)))
			}
		}()
	}
	testkit.Eventually(t, "a client waits for memory", func() bool {
		return budget.Stats().Waiting > 0
	})
	a, b := g.subscribed(t, "t"), g.publisher(t)
	for g.Stats().Refused[MemoryExhausted] == 0 {
		b.send(ping("t", "x", 1))
		a.receive()
	}
	if used := budget.Stats().Peak; used > 10<<20 {
		t.Errorf("%d bytes of a budget of 8 MiB were used", used)
	}
}
