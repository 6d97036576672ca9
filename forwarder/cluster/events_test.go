package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// received collects events.
type received struct {
	mu  sync.Mutex
	all []string
}

func (r *received) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

func (r *received) await(t *testing.T, want ...string) {
	t.Helper()
	testkit.Eventually(t, "events", func() bool { return len(r.list()) >= len(want) })
	if got := r.list(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("received\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *received) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.all...)
}

type block struct {
	Addr netip.Addr
	Why  string `zeek:",enum"`
	For  time.Duration
}

func TestEvents(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	from := join(t, b, Config{Format: JSON})
	to := join(t, b, Config{Name: "worker-1", Layout: layout})
	var got received
	Handle(to.Node, "Site::block", func(_ context.Context, e Event, args block) {
		got.add("%s %s %v %s %v", e.Topic, e.Name, args.Addr, args.Why, args.For)
	})
	Handle(to.Node, "Site::clear", func(_ context.Context, e Event, _ struct{}) {
		got.add("clear %t", e.Node == from.Self().ID)
	})
	for _, prefix := range []string{"site.", "site.", "gone."} {
		if err := to.Subscribe(prefix); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Unsubscribe("gone."); err != nil {
		t.Fatal(err)
	}
	if err := to.Subscribe(NodeIDTopic("x")); err == nil {
		t.Error("a topic of a node id can be subscribed")
	}
	ready(t, to)
	ready(t, from)
	ctx := t.Context()
	args := []any{netip.MustParseAddr("10.0.0.1"), event.Enum("Site::SCAN"), time.Minute}
	for _, err := range []error{
		from.Publish(ctx, "site.blocks", "Site::block", args...),
		from.Publish(ctx, "gone.blocks", "Site::block", args...),
		from.Publish(ctx, NodeTopic("worker-1"), "Site::clear"),
		from.Publish(ctx, NodeTopic("worker-10"), "Site::clear"),
		from.Publish(ctx, Worker.Topic(), "Site::unknown"),
		from.Publish(ctx, Worker.poolTopic(), "Site::clear", "one too many"),
		from.Publish(ctx, NodeIDTopic(to.Self().ID), "Site::clear"),
		to.Publish(ctx, "site.own", "Site::clear"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := from.Publish(ctx, "site.", ""); err == nil {
		t.Error("an event without a name is published")
	}
	got.await(t, "site.blocks Site::block 10.0.0.1 Site::SCAN 1m0s", "clear true", "clear true")
	testkit.Eventually(t, "every message is accounted for", func() bool {
		st := to.Stats()
		return st.Own == 1 && st.Handled == 3 && st.Unhandled == 1 && st.balanced() &&
			st.Dropped == Drops{BadArguments: 1}
	})
}

// balanced reports whether everything that was received is accounted for.
func (st *Stats) balanced() bool {
	return st.Received == st.Own+st.Hellos+st.Unhandled+st.Handled+uint64(st.Queued)+
		st.Dropped.Total()
}

// A handler that does not return holds neither other nodes nor the handshake up. What does not fit
// the queue is dropped and counted, and Shutdown accounts for the rest.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	slow := join(t, b, Config{Name: "worker-1", Layout: layout, Queue: 5})
	began := make(chan struct{}, 1)
	slow.HandleAll(func(ctx context.Context, e Event) {
		if string(e.Name) == "Site::hold" {
			began <- struct{}{}
			<-ctx.Done()
		}
	})
	from := join(t, b, Config{Name: "worker-2", Layout: layout})
	slow.awaitPeers(t, "worker-2")
	from.awaitPeers(t, "worker-1")
	ready(t, from)
	publish := func(name string) {
		t.Helper()
		if err := from.Publish(t.Context(), NodeTopic("worker-1"), name); err != nil {
			t.Fatal(err)
		}
	}
	publish("Site::hold")
	<-began
	for range 100 {
		publish("Site::more")
	}
	testkit.Eventually(t, "what does not fit is dropped", func() bool {
		st := slow.Stats()
		return st.Queued == 5 && st.Dropped[QueueFull] == 95
	})
	manager := join(t, b, Config{Name: "manager", Layout: layout})
	manager.awaitPeers(t, "worker-1", "worker-2")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := slow.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	st := slow.Stats()
	if st.Dropped[AtEnd] != 5 || !st.balanced() || st.Queued != 0 {
		t.Errorf("%+v", st)
	}
}

func TestQueueLimits(t *testing.T) {
	event := func(size int) item {
		return item{event: Event{Event: event.Event{Args: make([]byte, size)}}}
	}
	for _, c := range []struct{ events, bytes, size, fit int }{
		{2, -1, 1 << 20, 2}, {-1, 10, 4, 2}, {-1, 10, 100, 1}, {-1, -1, 1 << 20, 50},
	} {
		q := newMailbox[item](&itemLimit{maxEvents: unlimited(c.events),
			maxBytes: unlimited(int64(c.bytes)), maxStatuses: 1})
		n := 0
		for range 50 {
			if q.add(event(c.size)) {
				n++
			}
		}
		if n != c.fit || !q.add(item{status: new(Status)}) || q.add(item{status: new(Status)}) {
			t.Errorf("%+v: %d events", c, n)
		}
		q.next()
		if fits := q.add(event(c.size)); !fits {
			t.Errorf("%+v: no room after one was taken", c)
		}
	}
}

// An orderly end handles what was received.
func TestShutdownHandlesTheRest(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	to := join(t, b, Config{Name: "worker-1", Layout: layout})
	hold := make(chan struct{})
	var got received
	Handle(to.Node, "Site::n", func(_ context.Context, _ Event, args struct{ N uint64 }) {
		<-hold
		got.add("%d", args.N)
	})
	from := join(t, b, Config{})
	ready(t, to)
	ready(t, from)
	for i := range uint64(3) {
		if err := from.Publish(t.Context(), Worker.Topic(), "Site::n", i); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "all arrive", func() bool { return to.Stats().Queued == 2 })
	time.AfterFunc(10*time.Millisecond, func() { close(hold) })
	to.leave(t)
	got.await(t, "0", "1", "2")
	if err := to.Ready(t.Context()); !errors.Is(err, zmtp.ErrClosed) {
		t.Errorf("Ready after the end: %v", err)
	}
	if err := to.Publish(t.Context(), "t", "e"); !errors.Is(err, zmtp.ErrClosed) {
		t.Errorf("Publish after the end: %v", err)
	}
}

// Without a broker, what waits ends with its context.
func TestNoBroker(t *testing.T) {
	t.Parallel()
	n := up(t, "", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := n.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for _, cfg := range []Config{{Name: "nobody", Layout: layout}, {Name: "a.b"}, {XSub: "bad"},
		{XPub: "bad"}, {Name: strings.Repeat("n", 300)}} {
		if _, err := Join(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}
