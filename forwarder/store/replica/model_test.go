package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/forwarder/store/sqlite"
	"zmtpd/zmtp/testkit"
)

// plan is a run of the model.
type plan struct {
	backend string // "" for none, or the name of a kind
	loss    int    // percent of the events
	steps   []step
}

type step struct {
	op, key string // put_unique and so on, or cut, wait, refuse
	value   uint64
	through int // 0: a clone; of cut: the clone, and whether it is cut or mended
}

// outside is a backend whose calls are made outside of the bubble of a test, in which a connection
// to a server cannot be: time would stand still while one waits for it. It refuses a commit now and
// then.
type outside struct {
	store.Backend
	calls   chan func()
	done    chan struct{}
	refuse  atomic.Bool // the next commit of changes
	refused atomic.Bool // a commit was
}

// startOutside returns a backend that has none yet. It ends with the test.
func startOutside(t *testing.T) *outside {
	o := &outside{calls: make(chan func()), done: make(chan struct{})}
	go func() {
		for f := range o.calls {
			f()
			o.done <- struct{}{}
		}
	}()
	t.Cleanup(func() { close(o.calls) })
	return o
}

func (o *outside) do(f func()) {
	o.calls <- f
	<-o.done
}

func (o *outside) Load(add func(*store.Entry) error) (seq uint64, err error) {
	o.do(func() { seq, err = o.Backend.Load(add) })
	return seq, err
}

func (o *outside) Commit(changes []store.Change) (err error) {
	o.do(func() {
		if len(changes) > 0 && o.refuse.CompareAndSwap(true, false) {
			o.refused.Store(true)
			err = errors.New("no room")
			return
		}
		err = o.Backend.Commit(changes)
	})
	return err
}

func (o *outside) Sync() (err error) {
	o.do(func() { err = o.Backend.Sync() })
	return err
}

func (o *outside) Close() (err error) {
	o.do(func() { err = o.Backend.Close() })
	return err
}

// TestModel: random operations on a store in memory, in a SQLite file or in a bucket of JetStream,
// also through one of two clones, while events are lost, connections cut and commits refused. In
// the end all have what a map has, and so has the backend.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	server := natstest.Start(t, nil)
	o := startOutside(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		p := plan{backend: rapid.SampledFrom([]string{"", "", "SQLite", "JetStream"}).
			Draw(rt, "backend"), loss: rapid.IntRange(0, 30).Draw(rt, "loss in percent")}
		for range rapid.IntRange(1, 60).Draw(rt, "operations") {
			p.steps = append(p.steps, step{rapid.SampledFrom([]string{"put", "put_unique", "increment",
				"decrement", "erase", "clear", "cut", "wait", "refuse"}).Draw(rt, "op"),
				rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "key"),
				rapid.Uint64Range(0, 9).Draw(rt, "value"), rapid.IntRange(0, 5).Draw(rt, "through")})
		}
		n++
		name := fmt.Sprint("hosts", n)
		open := map[string]func() (store.Backend, error){
			"SQLite": func() (store.Backend, error) {
				return sqlite.Open(filepath.Join(dir, name), store.Group)
			},
			"JetStream": func() (store.Backend, error) {
				return jetstream.Open(jetstream.Config{Store: name, URLs: []string{server.URL},
					Sync: store.Group, Timeout: testkit.Patience})
			},
		}[p.backend]
		var err error
		synctest.Test(t, func(t *testing.T) { err = p.run(t, o, open) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// apply makes the step in a map, and returns whether it fails and whether its condition is met.
func (st step) apply(want map[string]uint64) (fails, met bool) {
	old, has := want[st.key]
	switch st.op {
	case "put":
		want[st.key] = st.value
	case "put_unique":
		if has {
			return false, false
		}
		want[st.key] = st.value
	case "increment":
		want[st.key] = old + st.value
	case "decrement":
		if !has || old < st.value {
			return true, false
		}
		want[st.key] = old - st.value
	case "erase":
		delete(want, st.key)
	case "clear":
		clear(want)
	}
	return false, true
}

// same returns whether a store has what a map has.
func same(s *store.Store, want map[string]uint64) bool {
	list := s.List(nil, 100)
	for _, e := range list {
		key, _ := e.Key.Text()
		if v, _ := e.Value.Raw().Count(); v != want[string(key)] {
			return false
		}
	}
	return len(list) == len(want)
}

// config returns the configuration of a store with an open backend.
func (o *outside) config(open func() (store.Backend, error)) (cfg store.Config, err error) {
	if open == nil {
		return cfg, nil
	}
	o.do(func() { o.Backend, err = open() })
	o.refuse.Store(false)
	o.refused.Store(false)
	return store.Config{Backend: o, Sync: store.Group}, err
}

func (p plan) run(t *testing.T, o *outside, open func() (store.Backend, error)) error {
	cfg, err := o.config(open)
	if err != nil {
		return err
	}
	cfg.History = 2000 // few changes: some gaps need a snapshot
	lose := func(_, _ *station, _ string) bool { return rand.IntN(100) < p.loss }
	n := &network{lose: lose}
	s := openStore(t, cfg)
	m, masterAt := startMaster(t, n, s, nil)
	var clones [2]*Clone
	var at [2]*station
	for i := range clones {
		clones[i], at[i] = startClone(t, n)
	}
	defer func() {
		for i := range clones {
			clones[i].Close()
			at[i].leave()
		}
		m.Close()
		masterAt.leave()
		s.Close()
	}()
	want := map[string]uint64{}
	for _, st := range p.steps {
		switch st.op {
		case "cut":
			at[st.through%2].isolate(st.through%3 == 0)
			continue
		case "wait":
			time.Sleep(time.Duration(st.value) * time.Second / 4)
			continue
		case "refuse":
			o.refuse.Store(open != nil)
			continue
		}
		raw, _ := store.Make(st.value)
		w := store.Write{Op: st.op, Key: store.Text(st.key), Value: raw}
		before := maps.Clone(want)
		fails, met := st.apply(want)
		var a store.Applied
		var err error
		if st.through == 0 { // also with losses: it asks again
			at[0].isolate(false)
			a, err = clones[0].Apply(t.Context(), "", w)
		} else {
			a, err = s.Apply(t.Context(), "", w)
		}
		if o.refused.Swap(false) {
			want = before
			if !errors.Is(err, store.BackendFailure) {
				return fmt.Errorf("%+v: the commit was refused, the write was not: %v", st, err)
			}
			continue
		}
		if (err != nil) != fails || err == nil && a.Done != met {
			return fmt.Errorf("%+v: done %v, error %v, want failure %v, condition %v", st, a.Done, err, fails,
				met)
		}
	}
	n.setLoss(nil)
	for i := range at {
		at[i].isolate(false)
	}
	if !same(s, want) {
		return fmt.Errorf("the master has not %v", want)
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	for i, c := range clones {
		if st := c.Status(); !same(c.Store(), want) || st.Stale || st.Behind > 0 {
			return fmt.Errorf("clone %d has not %v: %+v", i, want, st)
		}
	}
	if open == nil {
		return nil
	}
	o.refuse.Store(false)
	if err := s.Close(); err != nil {
		return err
	}
	cfg, err = o.config(open)
	if err != nil {
		return err
	}
	again := openStore(t, cfg)
	defer again.Close()
	if !same(again, want) {
		return fmt.Errorf("the backend has not %v", want)
	}
	return nil
}
