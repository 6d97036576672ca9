package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/forwarder/event"
)

func mustMake(t testing.TB, v any) event.Raw {
	t.Helper()
	r, err := Make(v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestBrokerOperations has the cases of Broker's appliers (broker/detail/appliers.hh).
func TestBrokerOperations(t *testing.T) {
	type v = event.Vector
	addr := event.Enum("Site::A")
	for _, c := range []struct {
		name string
		old  any // nil: no entry
		w    Write
		want any // an error Code, or the value after it
	}{
		{"count", uint64(5), Write{Op: "increment", Value: mustMake(t, uint64(3))}, uint64(8)},
		{"count absent", nil, Write{Op: "increment", Value: mustMake(t, uint64(3))}, uint64(3)},
		{"count and int", uint64(5), Write{Op: "increment", Value: mustMake(t, int64(3))}, TypeClash},
		{"count below 0", uint64(5), Write{Op: "decrement", Value: mustMake(t, uint64(6))}, InvalidData},
		{"count above", ^uint64(0), Write{Op: "increment", Value: mustMake(t, uint64(1))}, InvalidData},
		{"int", int64(5), Write{Op: "decrement", Value: mustMake(t, int64(6))}, int64(-1)},
		{"int below", int64(-1 << 63), Write{Op: "decrement", Value: mustMake(t, int64(1))}, InvalidData},
		{"double", 0.5, Write{Op: "increment", Value: mustMake(t, 1.25)}, 1.75},
		{"interval", time.Second, Write{Op: "decrement", Value: mustMake(t, time.Minute)},
			-59 * time.Second},
		{"time", time.Unix(5, 0).UTC(), Write{Op: "increment", Value: mustMake(t, time.Second)},
			time.Unix(6, 0).UTC()},
		{"time and count", time.Unix(5, 0), Write{Op: "increment", Value: mustMake(t, uint64(1))}, TypeClash},
		{"decrement absent", nil, Write{Op: "decrement", Value: mustMake(t, uint64(3))}, NoSuchKey},
		{"bool", true, Write{Op: "increment", Value: mustMake(t, true)}, TypeClash},
		{"bool absent", nil, Write{Op: "increment", Value: mustMake(t, true)}, TypeClash},
		{"append", "ab", Write{Op: "append", Value: mustMake(t, "cd")}, "abcd"},
		{"append absent", nil, Write{Op: "append", Value: mustMake(t, "cd")}, "cd"},
		{"append a count", "ab", Write{Op: "append", Value: mustMake(t, uint64(1))}, TypeClash},
		{"subtract from string", "ab", Write{Op: "decrement", Value: mustMake(t, "b")}, TypeClash},
		{"insert", event.Set{"b"}, Write{Op: "insert_into", Value: mustMake(t, "a")}, event.Set{"a", "b"}},
		{"insert again", event.Set{"b"}, Write{Op: "insert_into", Value: mustMake(t, "b")}, event.Set{"b"}},
		{"insert absent", nil, Write{Op: "insert_into", Value: mustMake(t, addr)}, event.Set{addr}},
		{"remove", event.Set{"a", "b", "c"}, Write{Op: "remove_from", Index: mustMake(t, "b")},
			event.Set{"a", "c"}},
		{"remove none", event.Set{"a"}, Write{Op: "remove_from", Index: mustMake(t, "b")}, event.Set{"a"}},
		{"table", event.Table{{Key: "b", Value: uint64(1)}},
			Write{Op: "insert_into", Index: mustMake(t, "a"), Value: mustMake(t, v{"x", true})},
			event.Table{{Key: "a", Value: v{"x", true}}, {Key: "b", Value: uint64(1)}}},
		{"table again", event.Table{{Key: "b", Value: uint64(1)}},
			Write{Op: "insert_into", Index: mustMake(t, "b"), Value: mustMake(t, "y")},
			event.Table{{Key: "b", Value: "y"}}},
		{"table absent", nil, Write{Op: "insert_into", Index: mustMake(t, "b"), Value: mustMake(t, "y")},
			event.Table{{Key: "b", Value: "y"}}},
		{"table without key", event.Table{}, Write{Op: "insert_into", Value: mustMake(t, "y")}, TypeClash},
		{"table, vector of one", event.Table{}, Write{Op: "push", Value: mustMake(t, v{"y"})}, InvalidData},
		{"remove from table", event.Table{{Key: "b", Value: uint64(1)}},
			Write{Op: "remove_from", Index: mustMake(t, "b")}, event.Table{}},
		{"push", v{"a"}, Write{Op: "push", Value: mustMake(t, uint64(1))}, v{"a", uint64(1)}},
		{"push absent", nil, Write{Op: "push", Value: mustMake(t, uint64(1))}, v{uint64(1)}},
		{"pop", v{"a", "b"}, Write{Op: "pop"}, v{"a"}},
		{"pop empty", v{}, Write{Op: "pop"}, v{}},
		{"pop absent", nil, Write{Op: "pop"}, NoSuchKey},
		{"no such operation", nil, Write{Op: "frobnicate"}, InvalidData},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{})
			key := Text("key")
			if c.old != nil {
				if _, err := s.Apply(t.Context(), "", Write{Op: "put", Key: key,
					Value: mustMake(t, c.old)}); err != nil {
					t.Fatal(err)
				}
			}
			c.w.Key = key
			a, err := s.Apply(t.Context(), "", c.w)
			if code, ok := c.want.(Code); ok {
				if !errors.Is(err, code) {
					t.Fatalf("error %v, want %v", err, code)
				}
				if e := s.Get(key); c.old == nil && e != nil ||
					c.old != nil && string(e.Value.Raw()) != string(mustMake(t, c.old)) {
					t.Errorf("the entry has changed: %v", e)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := mustMake(t, c.want)
			if got := s.Get(key).Value; string(got.Raw()) != string(want) ||
				string(a.Values[0].Raw()) != string(want) {
				t.Errorf("the value is %s and %s was returned, want %s", event.AppendText(nil, got.Raw()),
					event.AppendText(nil, a.Values[0].Raw()), event.AppendText(nil, want))
			}
		})
	}
}

func TestBatchIsAtomic(t *testing.T) {
	s := open(t, Config{})
	ctx := t.Context()
	put := func(key, value string) Write { return Write{Op: "put", Key: Text(key), Value: Text(value)} }
	if _, err := s.Apply(ctx, "", put("a", "1"), put("b", "2")); err != nil {
		t.Fatal(err)
	}
	a, err := s.Apply(ctx, "", put("a", "3"), Write{Op: "clear"}, put("c", "4"),
		Write{Op: "put_unique", Key: Text("c"), Value: Text("5")})
	if err != nil || a.Done || a.Failed != 3 {
		t.Fatal(a, err)
	}
	if _, err := s.Apply(ctx, "", Write{Op: "clear"}, put("c", "4"),
		Write{Op: "increment", Key: Text("c"), Value: mustMake(t, 1)}); !errors.Is(err, TypeClash) {
		t.Fatal(err)
	}
	st := s.Stats()
	if st.Keys != 2 || st.Seq != 2 || string(s.Get(Text("a")).Value.Raw()) != string(Text("1")) ||
		s.Get(Text("c")) != nil {
		t.Errorf("a batch that failed has changed something: %+v", st)
	}
}

// TestExpiry follows Broker: a write re-arms the expiry or clears it.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{})
		defer s.Close()
		key, one := Text("k"), mustMake(t, uint64(1))
		apply := func(op string, ttl time.Duration) {
			t.Helper()
			if _, err := s.Apply(t.Context(), "", Write{Op: op, Key: key, Value: one, TTL: ttl}); err != nil {
				t.Fatal(err)
			}
		}
		apply("put", time.Second)
		time.Sleep(900 * time.Millisecond)
		apply("increment", time.Second)
		time.Sleep(999 * time.Millisecond)
		if s.Get(key) == nil {
			t.Fatal("the expiry was not armed again")
		}
		time.Sleep(time.Millisecond)
		if s.Get(key) != nil {
			t.Fatal("the entry outlives its expiry")
		}
		apply("put_unique", time.Second)
		apply("increment", 0)
		time.Sleep(time.Hour)
		if s.Get(key) == nil {
			t.Fatal("the expiry was not cleared")
		}
		apply("put", time.Second)
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		if st := s.Stats(); st.Keys != 0 || st.Expired == 0 || st.Expiring != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWatch(t *testing.T) {
	s := open(t, Config{History: 4096})
	ctx := t.Context()
	w := s.Watch(0)
	for range 3 {
		if _, err := s.Apply(ctx, "me", Write{Op: "put", Key: Text("a"), Value: Text("1")},
			Write{Op: "erase", Key: Text("a")}); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := w.Next(ctx)
	if err != nil || len(changes) != 6 || changes[0].Last || !changes[1].Last || changes[5].Seq != 6 ||
		changes[5].Who != "me" || string(changes[1].Old.Value.Raw()) != string(Text("1")) {
		t.Fatal(changes, err)
	}
	next := make(chan error)
	go func() {
		_, err := w.Next(ctx)
		next <- err
	}()
	if _, err := s.Apply(ctx, "", Write{Op: "clear"}); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := s.Apply(ctx, "", Write{Op: "put", Key: Text("a"), Value: Text("1")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Next(ctx); !errors.Is(err, StaleData) {
		t.Errorf("error %v, want stale data", err)
	}
	w = s.Watch(s.Stats().Seq)
	s.Close()
	if _, err := w.Next(ctx); !errors.Is(err, ShuttingDown) {
		t.Errorf("error %v, want shutting down", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := open(t, Config{}).Watch(0).Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestTyped(t *testing.T) {
	type seen struct {
		First time.Time
		Count uint64
	}
	hosts := Typed[string, seen]{Store: open(t, Config{}), Who: "me"}
	ctx := t.Context()
	first := time.Unix(100, 0).UTC()
	if ok, err := hosts.PutUnique(ctx, "a", seen{first, 1}, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := hosts.PutUnique(ctx, "a", seen{first, 9}, 0); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, key := range []string{"a", "bb"} {
		err := hosts.Change(ctx, key, func(old *seen) (*seen, error) {
			if old == nil {
				return &seen{first, 10}, nil
			}
			old.Count++
			return old, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	for _, v := range hosts.All() {
		got = append(got, v.Count)
	}
	if v, ok, err := hosts.Get("a"); !ok || err != nil || v.Count != 2 || v.First != first ||
		len(got) != 2 || got[1] != 10 {
		t.Errorf("%v %v %v, all %v", v, ok, err, got)
	}
	if err := hosts.Put(ctx, "a", seen{first, 20}, 0); err != nil {
		t.Fatal(err)
	}
	if v, _, err := hosts.Get("a"); err != nil || v.Count != 20 {
		t.Errorf("after Put: %v, %v", v, err)
	}
	if err := hosts.Erase(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := hosts.Get("a"); ok || err != nil {
		t.Errorf("after Erase: %v, %v, %v", v, ok, err)
	}
}

// TestFollower: a follower repeats changes without gaps, and those who watch it learn of a Reset,
// also if the numbers go on.
func TestFollower(t *testing.T) {
	s := open(t, Config{Follower: true})
	ctx := t.Context()
	if _, err := s.Apply(ctx, "", Write{Op: "clear"}); err == nil {
		t.Error("a follower was written to")
	}
	if err := s.Reset([]*Entry{{Key: Text("a"), Value: Whole(Text("1")), Seq: 5}}, 5); err != nil {
		t.Fatal(err)
	}
	w := s.Watch(5)
	change := func(seq uint64) Change {
		return Change{Kind: Put, Last: true, Entry: &Entry{Seq: seq, Key: Text("b"), Value: Whole(Text("2"))}}
	}
	if err := s.Replay([]Change{change(7)}, nil); !errors.Is(err, StaleData) || s.Get(Text("b")) != nil {
		t.Error(err)
	}
	if err := s.Replay([]Change{change(5), change(6), change(7)}, nil); err != nil || s.Stats().Seq != 7 {
		t.Error(err, s.Stats().Seq)
	}
	if changes, err := w.Next(ctx); err != nil || len(changes) != 2 {
		t.Error(changes, err)
	}
	if err := s.Reset(nil, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(ctx); !errors.Is(err, StaleData) {
		t.Error(err)
	}
	if s.Get(Text("b")) != nil {
		t.Error("the entries are not those of Reset")
	}
}
