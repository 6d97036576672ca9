package forwarder

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"zmtpd/zmtp"
)

// drain empties the deliveries of the current batch.
func (r *router) drain() {
	for _, l := range r.deliveries {
		l.advance(l.left)
	}
}

// Routing the same topics again allocates nothing.
func TestSplitDoesNotAllocate(t *testing.T) {
	f := New(Config{})
	defer f.Close()
	_, b, release := hold(t, f, benchMessages(100, 8))
	defer release()
	table := &f.table
	for i := range 10 {
		s := new(subscriber)
		table.Subscribe(s, []byte("zeek."))
		table.Subscribe(s, fmt.Appendf(nil, "zeek.cluster.node.worker-%d.", i))
	}
	r := newRouter(f)
	if n := testing.AllocsPerRun(100, func() {
		if r.split(b); r.unmatched != 0 || len(r.deliveries) != 10 ||
			len(r.deliveries[9].runs) != 1 || r.deliveries[9].left != b.Len() {
			t.Fatal("not every subscriber gets all messages in one run")
		}
		r.drain()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Half of the topics have one subscriber each.
func TestSplitUnmatched(t *testing.T) {
	f := New(Config{})
	defer f.Close()
	_, b, release := hold(t, f, benchMessages(100, 8))
	defer release()
	table := &f.table
	r := newRouter(f)
	if r.split(b); r.unmatched != b.Len() || len(r.deliveries) != 0 {
		t.Errorf("without subscriptions %d of %d messages are unmatched", r.unmatched, b.Len())
	}
	for i := range 4 {
		table.Subscribe(new(subscriber), fmt.Appendf(nil, "zeek.cluster.node.worker-%d.", 2*i))
	}
	r.split(b)
	unmatched := r.unmatched
	for _, l := range r.deliveries {
		for _, run := range l.runs {
			if run.To-run.From != 1 {
				t.Fatalf("run %v", run)
			}
			unmatched++
		}
	}
	if unmatched != b.Len() || len(r.deliveries) != 4 {
		t.Errorf("%d of %d messages, for %d", unmatched, b.Len(), len(r.deliveries))
	}
}

// The caches stay bounded while topics are always new and subscribers come and go.
func TestRouterIsBounded(t *testing.T) {
	f := New(Config{})
	defer f.Close()
	table := &f.table
	r := newRouter(f)
	s := new(subscriber)
	table.Subscribe(s, nil)
	_, b, release := hold(t, f, benchMessages(100, 1))
	defer release()
	r.split(b)
	for i := range 3 * maxRoutes {
		if to := r.route(fmt.Appendf(nil, "topic %d", i)); len(to.deliveries) != 1 ||
			to.deliveries[0].sub != s {
			t.Fatalf("topic %d goes to %v", i, to.deliveries)
		}
	}
	if to := r.route(bytes.Repeat([]byte("x"), maxRouteTopic)); len(to.deliveries) != 1 {
		t.Errorf("a long topic goes to %v", to.deliveries)
	}
	if len(r.routes) != maxRoutes || len(r.deliveries) != 1 {
		t.Errorf("%d routes, %d deliveries", len(r.routes), len(r.deliveries))
	}
	for topic := range r.routes {
		if len(topic) >= maxRouteTopic {
			t.Error("a long topic is cached")
		}
	}
	for range 100 {
		s := new(subscriber)
		table.Subscribe(s, nil)
		r.drain()
		r.split(b)
		table.Remove(s)
	}
	if len(r.deliveries) > 2 || len(r.routes) != 1 {
		t.Errorf("%d routes, %d deliveries after the subscribers have gone", len(r.routes),
			len(r.deliveries))
	}
}

func TestLaneAdvance(t *testing.T) {
	for n := range 11 {
		l := &delivery{runs: []zmtp.Run{{From: 2, To: 5}, {From: 7, To: 8}, {From: 10, To: 16}},
			left: 10}
		var want, got []int
		for _, run := range l.runs {
			for i := run.From; i < run.To; i++ {
				want = append(want, i)
			}
		}
		l.advance(n)
		for _, run := range l.runs {
			if run.From >= run.To {
				t.Errorf("after %d: empty run %v", n, run)
			}
			for i := run.From; i < run.To; i++ {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want[n:]) || l.left != len(got) {
			t.Errorf("after %d: %v, %d left, want %v", n, got, l.left, want[n:])
		}
	}
}
