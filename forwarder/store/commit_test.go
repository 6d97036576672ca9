package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/forwarder/event"
)

// stubBackend keeps entries in memory, fails when it is told to, and waits before each commit.
type stubBackend struct {
	mu      sync.Mutex
	entries map[string]*Entry
	seq     uint64
	fail    error
	delay   time.Duration
	commits int
}

func (b *stubBackend) Load(add func(*Entry) error) (uint64, error) {
	for _, e := range b.entries {
		if err := add(e); err != nil {
			return 0, err
		}
	}
	return b.seq, nil
}

func (b *stubBackend) Commit(changes []Change) error {
	time.Sleep(b.delay)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.commits++
	for _, c := range changes {
		b.seq = c.Seq
		switch c.Kind {
		case Put:
			b.entries[string(c.Key)] = c.Entry
		case Clear:
			clear(b.entries)
		default:
			delete(b.entries, string(c.Key))
		}
	}
	return nil
}

func (b *stubBackend) Sync() error  { return nil }
func (b *stubBackend) Close() error { return nil }

func (b *stubBackend) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubBackend{entries: map[string]*Entry{}, delay: time.Millisecond}
		s := open(t, Config{Backend: b})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if _, err := s.Apply(t.Context(), "", Write{Op: "push", Key: Text("k"),
					Value: mustMake(t, i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s.Close()
		if b.commits > 3 || b.seq != 100 || b.entries[string(Text("k"))].Value.Len() != 100 {
			t.Errorf("%d commits, seq %d", b.commits, b.seq)
		}
	})
}

// TestFailedCommit: nothing of a change that the backend did not take is left.
func TestFailedCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubBackend{entries: map[string]*Entry{}, delay: time.Millisecond}
		s := open(t, Config{Backend: b})
		w := s.Watch(0)
		put := func(key string) Write { return Write{Op: "put", Key: Text(key), Value: Text("v")} }
		if _, err := s.Apply(t.Context(), "", put("a")); err != nil {
			t.Fatal(err)
		}
		b.set(errors.New("no space left on device"))
		var wg sync.WaitGroup
		for _, w := range []Write{put("a"), put("b"), {Op: "clear"}, put("c"),
			{Op: "push", Key: Text("d"), Value: Text("x")}} {
			wg.Go(func() {
				if _, err := s.Apply(t.Context(), "", w); !errors.Is(err, BackendFailure) {
					t.Errorf("error %v", err)
				}
			})
			time.Sleep(300 * time.Microsecond)
		}
		wg.Wait()
		if st := s.Stats(); st.Keys != 1 || st.Seq != 1 || st.Pending != 0 || st.Failure == nil {
			t.Errorf("%+v", st)
		}
		time.Sleep(2 * time.Second)
		if s.Stats().Failure == nil {
			t.Error("the store does not say that its backend fails")
		}
		b.set(nil)
		time.Sleep(2 * time.Second)
		if err := s.Stats().Failure; err != nil {
			t.Error("the store has not found out that its backend works again: ", err)
		}
		if _, err := s.Apply(t.Context(), "", put("b")); err != nil {
			t.Fatal(err)
		}
		if changes, err := w.Next(t.Context()); err != nil || len(changes) != 2 || changes[1].Seq != 2 {
			t.Error(changes, err)
		}
		if s.Get(Text("a")) == nil || s.Get(Text("b")) == nil || s.Get(Text("d")) != nil {
			t.Error("the entries are not those that were acknowledged")
		}
	})
}

// TestOffTriesAgain: with Off a change that was acknowledged is committed when the backend is back.
func TestOffTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubBackend{entries: map[string]*Entry{}, fail: errors.New("no space left on device")}
		s := open(t, Config{Backend: b, Sync: Off})
		if _, err := s.Apply(t.Context(), "", Write{Op: "put", Key: Text("a"), Value: Text("v")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		b.set(nil)
		time.Sleep(2 * time.Second)
		s.Close()
		if len(b.entries) != 1 {
			t.Error("the change was not committed")
		}
	})
}

// TestSnapshotIsCommitted: a snapshot has no change that is undone later.
func TestSnapshotIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubBackend{entries: map[string]*Entry{}, delay: time.Second,
			fail: errors.New("no space left on device")}
		s := open(t, Config{Backend: b})
		p, err := s.Start("", func(tx *Tx) error { return tx.Put(Text("a"), Text("v"), time.Time{}) })
		if err != nil {
			t.Fatal(err)
		}
		if entries, _, err := s.Snapshot(t.Context()); !errors.Is(err, BackendFailure) {
			t.Errorf("%d entries, error %v", len(entries), err)
		}
		if err := p.Wait(context.Background()); !errors.Is(err, BackendFailure) {
			t.Error(err)
		}
		if entries, seq, err := s.Snapshot(t.Context()); err != nil || len(entries) != 0 || seq != 0 {
			t.Error(entries, seq, err)
		}
	})
}

// TestPanic: an Update whose function panics changes nothing and holds nothing up.
func TestPanic(t *testing.T) {
	s := open(t, Config{})
	func() {
		defer func() { recover() }()
		s.Update(t.Context(), "", func(tx *Tx) error {
			tx.Put(Text("a"), Text("v"), time.Time{})
			panic("fault")
		})
	}()
	if st := s.Stats(); st.Keys != 0 || st.Seq != 0 {
		t.Errorf("%+v", st)
	}
}

// TestLoadChecks: what a file has is in the one form in which keys are compared.
func TestLoadChecks(t *testing.T) {
	odd := event.Raw{byte(event.String), 0x81, 0x00, 'a'} // a length of one in two bytes
	b := &stubBackend{entries: map[string]*Entry{"": {Key: odd, Value: Whole(odd)}}, seq: 7}
	s := open(t, Config{Backend: b})
	if e := s.Get(Text("a")); e == nil || string(e.Value.Raw()) != string(Text("a")) || s.Stats().Seq != 7 {
		t.Error(e)
	}
}
