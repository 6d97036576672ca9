package replica

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) {
	if !testkit.Nightly() { // with the race detector a run of the model takes a tenth of a second
		flag.Set("rapid.checks", "40")
	}
	goleak.VerifyTestMain(m)
}

// network is a bus in memory that loses events.
type network struct {
	mu   sync.Mutex
	size int // bytes of all events
	all  []*station
	lose func(from, to *station, name string) bool // nil for nothing
}

// station is a node of a network. One goroutine calls its handlers, in order.
type station struct {
	net      *network
	id       string
	cut      bool // nothing passes
	topics   []string
	handlers []func(context.Context, cluster.Event)
	queue    []cluster.Event
	wake     chan struct{}
	done     chan struct{}
}

func (n *network) join(id string) *station {
	s := &station{net: n, id: id, wake: make(chan struct{}, 1), done: make(chan struct{})}
	n.mu.Lock()
	n.all = append(n.all, s)
	n.mu.Unlock()
	go func() {
		for range s.wake {
			for {
				n.mu.Lock()
				if len(s.queue) == 0 {
					n.mu.Unlock()
					break
				}
				e, handlers := s.queue[0], s.handlers
				s.queue = s.queue[1:]
				n.mu.Unlock()
				for _, f := range handlers {
					f(context.Background(), e)
				}
			}
		}
		close(s.done)
	}()
	return s
}

func (s *station) leave() {
	s.net.mu.Lock()
	for i, other := range s.net.all {
		if other == s {
			s.net.all = append(s.net.all[:i:i], s.net.all[i+1:]...)
			break
		}
	}
	close(s.wake)
	s.net.mu.Unlock()
	<-s.done
}

func (s *station) isolate(cut bool) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.cut = cut
}

func (s *station) Publish(_ context.Context, topic, name string, args ...any) error {
	b, err := event.AppendEvent(nil, name, args)
	if err != nil {
		return err
	}
	e, err := event.ParseEvent(b)
	if err != nil {
		return err
	}
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.net.size += len(b)
	for _, to := range s.net.all {
		if to == s || s.cut || to.cut || s.net.lose != nil && s.net.lose(s, to, name) {
			continue
		}
		for _, prefix := range to.topics {
			if strings.HasPrefix(topic, prefix) {
				to.queue = append(to.queue, cluster.Event{Event: e, Topic: topic, Node: s.id})
				select {
				case to.wake <- struct{}{}:
				default:
				}
				break
			}
		}
	}
	return nil
}

func (s *station) Subscribe(prefix string) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.topics = append(s.topics, prefix)
	return nil
}

func (s *station) HandleAll(f func(context.Context, cluster.Event)) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.handlers = append(s.handlers, f)
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func openStore(t fataler, cfg store.Config) *store.Store {
	t.Helper()
	cfg.Name = "hosts"
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startMaster(t fataler, n *network, s *store.Store, refused func(error)) (*Master, *station) {
	t.Helper()
	at := n.join("master")
	m, err := NewMaster(MasterConfig{Store: s, Bus: at, Who: "host:1", Refused: refused})
	if err != nil {
		t.Fatal(err)
	}
	return m, at
}

func startClone(t fataler, n *network) (*Clone, *station) {
	t.Helper()
	at := n.join("clone")
	c, err := NewClone(CloneConfig{Name: "hosts", Bus: at})
	if err != nil {
		t.Fatal(err)
	}
	return c, at
}

func put(key, value string) store.Write {
	return store.Write{Op: "put", Key: store.Text(key), Value: store.Text(value)}
}

// TestClone: a clone gets a snapshot, then changes, writes through the master, and notices that it
// is stale; it finds a master that has restarted.
func TestClone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, n := t.Context(), &network{}
		s := openStore(t, store.Config{})
		for i := range 5000 { // some parts
			if _, err := s.Apply(ctx, "", put(fmt.Sprint(i), strings.Repeat("v", 1000))); err != nil {
				t.Fatal(err)
			}
		}
		c, cloneAt := startClone(t, n)
		one, _ := store.Make(uint64(1))
		early, cancel := context.WithTimeout(ctx, 3*time.Second)
		if err := c.Ready(early); !errors.Is(err, store.NoSuchMaster) || !c.Status().Stale {
			t.Error(err, c.Status())
		}
		if _, err := c.Apply(early, "", put("a", "b")); !errors.Is(err, store.RequestTimeout) {
			t.Error(err)
		}
		cancel()
		m, masterAt := startMaster(t, n, s, nil)
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if st := c.Status(); st.Seq != 5000 || st.Stale || st.Master != "host:1" {
			t.Errorf("%+v", st)
		}
		if a, err := c.Apply(ctx, "dashboard", put("a", "b"), put("c", "d")); err != nil || !a.Done {
			t.Fatal(a, err)
		}
		if a, err := c.Apply(ctx, "", store.Write{Op: "put_unique", Key: store.Text("a"), Value: store.Text("x")}); err != nil || a.Done {
			t.Fatal(a, err)
		}
		if _, err := c.Apply(ctx, "", store.Write{Op: "increment", Key: store.Text("a"), Value: one}); !errors.Is(err, store.TypeClash) {
			t.Fatal(err)
		}
		if _, err := c.Store().Apply(ctx, "", put("a", "b")); err == nil {
			t.Error("the copy itself was written to")
		}
		synctest.Wait()
		if e := c.Store().Get(store.Text("c")); e == nil || e.Who != "dashboard@clone" {
			t.Errorf("%+v", e)
		}
		time.Sleep(time.Second) // another sign of life
		synctest.Wait()

		cloneAt.isolate(true)
		if _, err := s.Apply(ctx, "", put("e", "f")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if !c.Status().Stale {
			t.Error("a clone without a master is not stale")
		}
		cloneAt.isolate(false)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if st := c.Status(); st.Stale || st.Seq != 5003 || st.Behind != 0 || st.Snapshots != 1 {
			t.Errorf("after the cut: %+v", st)
		}

		m.Close()
		masterAt.leave()
		s.Close()
		s = openStore(t, store.Config{})
		if _, err := s.Apply(ctx, "", put("new", "run")); err != nil {
			t.Fatal(err)
		}
		m, masterAt = startMaster(t, n, s, nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if st := c.Status(); st.Seq != 1 || c.Store().Get(store.Text("new")) == nil || st.Snapshots != 2 {
			t.Errorf("after a restart: %+v", st)
		}
		c.Close()
		m.Close()
		masterAt.leave()
		cloneAt.leave()
		s.Close()
	})
}

// TestCountClones lets a master count its clones: one that follows, one that gets no changes, and
// one that ends.
func TestCountClones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		s := openStore(t, store.Config{})
		m, masterAt := startMaster(t, n, s, nil)
		first, firstAt := startClone(t, n)
		second, secondAt := startClone(t, n)
		want := func(clones int, behind uint64) {
			t.Helper()
			time.Sleep(7 * time.Second)
			synctest.Wait()
			if st := m.Stats(); st.Clones != clones || st.Behind != behind {
				t.Errorf("%d clones, of which one is %d behind, want %d and %d", st.Clones, st.Behind,
					clones, behind)
			}
		}
		want(2, 0)
		n.setLoss(func(_, to *station, name string) bool {
			return to == secondAt && name == "zmtpd_store_changes"
		})
		for i := range 3 {
			if _, err := s.Apply(t.Context(), "", put(fmt.Sprint(i), "v")); err != nil {
				t.Fatal(err)
			}
		}
		want(2, 3)
		n.setLoss(nil)
		want(2, 0)
		second.Close()
		secondAt.leave()
		want(1, 0)
		m.follow("a clone that nobody hears of", 1)
		for i := range 2 * maxClones {
			m.follow(fmt.Sprint(i), 0)
		}
		if st := m.Stats(); st.Clones != maxClones {
			t.Errorf("%d clones are remembered, the limit is %d", st.Clones, maxClones)
		}
		first.Close()
		firstAt.leave()
		want(0, 0)
		m.Close()
		masterAt.leave()
		s.Close()
	})
}

// TestTwoMasters: the second one of a name is refused, and so is the younger one of two that meet
// late.
func TestTwoMasters(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{}
				var refused [2]chan error
				var stores [2]*store.Store
				var masters [2]*Master
				var at [2]*station
				for i := range 2 {
					refused[i] = make(chan error, 1)
					stores[i] = openStore(t, store.Config{})
					masters[i], at[i] = startMaster(t, n, stores[i], func(err error) { refused[i] <- err })
					at[i].isolate(late)
					time.Sleep(3 * time.Second)
				}
				for i := range 2 {
					at[i].isolate(false)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if len(refused[0]) != 0 || len(refused[1]) != 1 {
					t.Fatalf("%d and %d refusals", len(refused[0]), len(refused[1]))
				}
				if err := <-refused[1]; !errors.Is(err, store.MasterExists) || !strings.Contains(err.Error(), "host:1") {
					t.Error(err)
				}
				for i := range 2 {
					masters[i].Close()
					at[i].leave()
					stores[i].Close()
				}
			})
		})
	}
}

// TestScript: what a Zeek script sends is answered, and a repeated request is carried out once.
func TestScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		s := openStore(t, store.Config{})
		m, masterAt := startMaster(t, n, s, nil)
		script := n.join("zeromq_worker-1_host_1_N")
		script.Subscribe("zeek.cluster.node.worker-1.")
		answers := make(chan string, 10)
		script.HandleAll(func(_ context.Context, e cluster.Event) {
			answers <- string(e.Name) + string(event.AppendText(nil, e.Args))
		})
		const topic = "zeek.cluster.node.worker-1."
		for _, c := range []struct {
			id               uint64
			op               string
			key, value, want any
			index            any
		}{
			{1, "put", "k", uint64(5), `[1, 0, T, 5, ""]`, false},
			{2, "increment", "k", uint64(2), `[2, 0, T, 7, ""]`, false},
			{2, "increment", "k", uint64(2), `[2, 0, T, 7, ""]`, false},
			{3, "get", "k", false, `[3, 0, T, 7, ""]`, false},
			{4, "get", "l", false, `[4, 9, F, -, "no_such_key: there is no entry \"l\""]`, false},
			{5, "exists", "l", false, `[5, 0, F, -, ""]`, false},
			{6, "insert_into", "t", "v", `[6, 0, T, {"i": "v"}, ""]`, "i"},
			{7, "get_index", "t", false, `[7, 0, T, "v", ""]`, "i"},
			{8, "keys", false, false, `[8, 0, T, ["k", "t"], ""]`, false},
			{9, "compare_and_set", "k", uint64(8), `[9, 0, T, 8, ""]`, uint64(7)},
			{10, "compare_and_set", "k", uint64(8), `[10, 0, F, -, ""]`, uint64(7)},
			{11, "frobnicate", "k", uint64(8), `[11, 12, F, -, "invalid_data: there is no operation \"frobnicate\""]`, uint64(7)},
		} {
			err := script.Publish(t.Context(), MasterTopic("hosts"), "zmtpd_store_request", topic, c.id, c.op, c.key,
				c.value, c.index, time.Duration(0))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := <-answers, "zmtpd_store_reply"+c.want.(string); got != want {
				t.Errorf("%s: %s, want %s", c.op, got, want)
			}
		}
		if e := s.Get(store.Text("k")); e.Who != "worker-1" {
			t.Errorf("%+v", e)
		}
		for _, args := range [][]any{{}, {1, 2, 3}, {"t", uint64(1), "put", "k", "v", "", 5}, {"t", uint64(1), 5}} {
			for _, name := range []string{"zmtpd_store_request", "zmtpd_store_batch", "zmtpd_store_sync",
				"zmtpd_store_claim", "zmtpd_store_alive", "other"} {
				for _, topic := range []string{MasterTopic("hosts"), ClonesTopic("hosts")} {
					if err := script.Publish(t.Context(), topic, name, args...); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		synctest.Wait()
		m.Close()
		masterAt.leave()
		script.leave()
		s.Close()
	})
}

func (n *network) setLoss(f func(from, to *station, name string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = f
}
