package jetstream

import (
	"flag"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/zmtp/testkit"
)

// TestModel: random Updates, each of several writes, while acknowledgements are lost, the
// connection breaks and the store is opened again, also without the repairs of Close. A store that
// is opened again has what a map has, and an Update that failed is there whole or not at all, and
// only until the next one.
func TestModel(t *testing.T) {
	if !testkit.Nightly() { // a run takes some hundredths of a second
		flag.Set("rapid.checks", "8")
	}
	server := natstest.Start(t, nil)
	p := startProxy(t, server.URL)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		cfg := Config{Store: fmt.Sprint("m", n), URLs: []string{"nats://" + p.Addr().String()},
			Timeout: testkit.Patience / 4}
		var s *store.Store
		var b *Backend
		reopen := func() {
			var err error
			defer func() {
				if err != nil {
					rt.Log(err)
				}
			}()
			testkit.Eventually(t, "the store is open", func() (ok bool) {
				if b, err = Open(cfg); err != nil {
					return false
				}
				b.timeout = 150 * time.Millisecond
				s, err = store.Open(store.Config{Name: "model", Backend: b})
				return err == nil
			})
		}
		reopen()
		defer func() { s.Close() }()
		want := map[string]uint64{}   // as acknowledged
		var maybe []map[string]uint64 // what Updates without acknowledgement would have made
		writes := 0
		update := func() {
			next := maps.Clone(want)
			var list []store.Write
			for range rapid.IntRange(1, 6).Draw(rt, "writes") {
				key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(rt, "key")
				writes++
				value, _ := store.Make(uint64(writes))
				op := rapid.SampledFrom([]string{"put", "put", "put", "erase", "clear"}).
					Draw(rt, "op")
				w := store.Write{Op: op, Key: text(key), Value: value}
				switch w.Op {
				case "put":
					next[key] = uint64(writes)
				case "erase":
					delete(next, key)
				case "clear":
					clear(next)
				}
				list = append(list, w)
			}
			_, err := s.Apply(t.Context(), "", list...)
			if err == nil {
				want, maybe = next, nil
			} else {
				maybe = append(maybe, next)
			}
		}
		// find finds out which Updates without acknowledgement were made.
		find := func() {
			for _, m := range maybe {
				if same(s, m) {
					want = m
				}
			}
			maybe = nil
			if !same(s, want) {
				rt.Fatalf("the bucket has %v, want %v", all(s), want)
			}
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"update", "update", "update", "cut", "silence",
				"close", "crash"}).Draw(rt, "step") {
			case "update":
				update() // it may fail: the connection may be away
			case "cut":
				p.cut()
			case "silence":
				p.silence()
				for range rapid.IntRange(1, 2).Draw(rt, "updates") {
					update()
				}
				p.cut()
			case "close":
				if s.Close() == nil {
					maybe = nil
				}
				reopen()
				find()
			case "crash": // without the repairs of Close
				b.nc.Close()
				s.Close()
				reopen()
				find()
			}
			if !same(s, want) {
				rt.Fatalf("the memory has %v, want %v", all(s), want)
			}
		}
	})
}

func all(s *store.Store) map[string]uint64 {
	m := map[string]uint64{}
	for _, e := range s.List(nil, 100) {
		key, _ := e.Key.Text()
		m[string(key)], _ = e.Value.Raw().Count()
	}
	return m
}

func same(s *store.Store, want map[string]uint64) bool { return maps.Equal(all(s), want) }
