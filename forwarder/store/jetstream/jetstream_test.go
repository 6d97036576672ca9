package jetstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/zmtp/testkit"
)

// open opens a store at a server.
func open(t testing.TB, cfg Config) (*store.Store, *Backend) {
	t.Helper()
	if cfg.Store == "" {
		cfg.Store = "test"
	}
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{Name: cfg.Store, Backend: b, Sync: cfg.Sync,
		MaxValue: b.MaxValue()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, b
}

func text(s string) event.Raw { return store.Text(s) }

// has returns whether a store has a text as the value of a key.
func has(s *store.Store, key, value string) bool {
	e := s.Get(text(key))
	return e != nil && string(e.Value.Raw()) == string(text(value))
}

func put(t testing.TB, s *store.Store, key, value string) {
	t.Helper()
	if err := tryPut(t, s, key, value); err != nil {
		t.Fatal(err)
	}
}

func tryPut(t testing.TB, s *store.Store, key, value string) error {
	_, err := s.Apply(t.Context(), "me", store.Write{Op: "put", Key: text(key), Value: text(value)})
	return err
}

func TestReopen(t *testing.T) {
	server := natstest.Start(t, nil)
	for sync := store.Always; sync <= store.Off; sync++ {
		t.Run(sync.String(), func(t *testing.T) {
			cfg := Config{URLs: []string{server.URL}, Store: "s" + sync.String(), Sync: sync}
			s, _ := open(t, cfg)
			expires := time.Now().Add(time.Hour)
			long := text(strings.Repeat("k", 60_000))
			deep := event.Raw{byte(event.String), 0}
			for range event.MaxDepth {
				deep = append(event.Raw{byte(event.VectorOf), 1}, deep...)
			}
			never := time.Time{}
			err := s.Update(t.Context(), "worker-1", func(tx *store.Tx) error {
				return errors.Join(tx.Put(text("old"), text("x"), never), tx.Clear(),
					tx.Put(text("a"), text("1"), expires), tx.Put(text("b"), text("2"), never),
					tx.Put(long, text("long"), time.Unix(1<<40, 0)),
					tx.Put(text("deep"), deep, never), tx.Put(text("a"), text("3"), expires))
			})
			if err != nil {
				t.Fatal(err)
			}
			erase := store.Write{Op: "erase", Key: text("b")}
			if _, err := s.Apply(t.Context(), "", erase); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, b := open(t, cfg)
			e := s.Get(text("a"))
			if st := s.Stats(); st.Keys != 3 || st.Seq != 8 || !has(s, "a", "3") ||
				!e.Expires.Equal(expires) || e.Seq != 7 || e.Who != "worker-1" {
				t.Errorf("%+v, entry %+v", st, e)
			}
			if e := s.Get(long); e == nil || e.Expires.Year() < 2262 {
				t.Errorf("the entry of a long key is %+v", e)
			}
			if e := s.Get(text("deep")); e == nil || string(e.Value.Raw()) != string(deep) {
				t.Errorf("the deepest value is %+v", e)
			}
			if st := b.Stats(); !st.Connected || st.Reconnects != 0 || st.Replicas != 1 {
				t.Errorf("%+v", st)
			}
			info, err := b.stream.Info(t.Context())
			if err != nil || info.State.Msgs != 5 { // 3 entries, a deleted one, the record
				t.Errorf("%d messages, error %v; an old generation is left", info.State.Msgs, err)
			}
		})
	}
}

// TestLargeCommit: an Update that no batch can hold is made whole.
func TestLargeCommit(t *testing.T) {
	server := natstest.Start(t, nil)
	cfg := Config{URLs: []string{server.URL}}
	s, _ := open(t, cfg)
	entries, values := 1200, 2
	if testkit.Nightly() {
		entries, values = 2500, 20
	}
	big := text(strings.Repeat("v", 900_000))
	err := s.Update(t.Context(), "", func(tx *store.Tx) error {
		var all []error
		for i := range entries {
			all = append(all, tx.Put(text(strconv.Itoa(i)), text("v"), time.Time{}))
		}
		for i := range values {
			all = append(all, tx.Put(text("big"+strconv.Itoa(i)), big, time.Time{}))
		}
		return errors.Join(all...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, b := open(t, cfg)
	e := s.Get(text("big1"))
	if s.Stats().Keys != entries+values || e == nil || e.Value.Size() != len(big) {
		t.Errorf("%+v", s.Stats())
	}
	info, err := b.stream.Info(t.Context())
	if err != nil || info.State.Msgs != uint64(entries+values+1) {
		t.Errorf("%d messages, error %v; the journal is left", info.State.Msgs, err)
	}

	// The process ends behind the commit, before the entries are written.
	var writes []write
	for i := range 1100 {
		w := encodeEntry(&store.Entry{Key: text(strconv.Itoa(i)), Value: store.Whole(text("new"))})
		writes = append(writes, write{generation(b.current.Generation) + "." + w.Key, w.Data})
	}
	b.last++
	r := b.current
	r.Journal, r.Parts, r.Seq = b.last, 1, r.Seq+1100
	part := write{fmt.Sprint(journal(b.last), ".0"), pack(writes, b.maxData())[0]}
	if err := b.publish([]write{part}, r); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, _ = open(t, cfg)
	for i, want := range map[int]string{0: "new", 1099: "new", 1100: "v"} {
		if !has(s, strconv.Itoa(i), want) {
			t.Errorf("entry %d is not %s", i, want)
		}
	}
	if seq := s.Stats().Seq; seq != uint64(entries+values)+1100 {
		t.Errorf("the last change is %d", seq)
	}
}
