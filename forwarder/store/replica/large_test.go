package replica

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// TestLargeContainers: a change of a large set, table or vector is sent to clones as the elements
// that come and go. The clones have what the master has, also when events are lost.
func TestLargeContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, n := t.Context(), &network{}
		s := openStore(t, store.Config{History: 1 << 20})
		set, vector, table := event.Set{}, event.Vector{}, event.Table{}
		for i := range uint64(5000) {
			set = append(set, i)
			vector = append(vector, i)
			table = append(table, event.Entry{Key: i, Value: i})
		}
		for key, value := range map[string]any{"set": set, "vector": vector, "table": table} {
			raw, err := store.Make(value)
			if err != nil {
				t.Fatal(err)
			}
			w := store.Write{Op: "put", Key: store.Text(key), Value: raw}
			if _, err := s.Apply(ctx, "", w); err != nil {
				t.Fatal(err)
			}
		}
		m, masterAt := startMaster(t, n, s, nil)
		c, cloneAt := startClone(t, n)
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		change := func() {
			t.Helper()
			x, _ := store.Make(rand.Uint64N(10_000))
			y, _ := store.Make(rand.Uint64N(10_000))
			for _, w := range []store.Write{{Op: "insert_into", Key: store.Text("set"), Value: x},
				{Op: "remove_from", Key: store.Text("set"), Index: y},
				{Op: "insert_into", Key: store.Text("table"), Index: x, Value: y},
				{Op: "remove_from", Key: store.Text("table"), Index: y},
				{Op: "push", Key: store.Text("vector"), Value: x},
				{Op: "expire", Key: store.Text("set"), TTL: time.Hour},
				{Op: "pop", Key: store.Text("vector")}, {Op: "pop", Key: store.Text("vector")}} {
				if _, err := s.Apply(ctx, "", w); err != nil {
					t.Fatal(err)
				}
			}
		}
		check := func() {
			t.Helper()
			for _, e := range s.List(nil, 10) {
				copied := c.Store().Get(e.Key)
				if copied == nil || !bytes.Equal(copied.Value.Raw(), e.Value.Raw()) ||
					!copied.Expires.Equal(e.Expires) {
					t.Errorf("the clone has another entry %v", e.Key)
				}
			}
		}
		change() // a value that came in one piece is sent so once more
		synctest.Wait()
		before := n.size
		for range 100 {
			change()
			synctest.Wait()
		}
		if size := n.size - before; size > 100*8*400 {
			t.Errorf("800 changes of one element took %d bytes", size)
		}
		check()

		n.setLoss(func(_, _ *station, _ string) bool { return rand.IntN(3) == 0 })
		for range 50 {
			change()
			time.Sleep(20 * time.Millisecond)
		}
		n.setLoss(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		check()
		if st := c.Status(); st.Stale || st.Behind != 0 {
			t.Errorf("%+v", st)
		}

		// Edits that do not fit are refused, and the clone gets all entries.
		snapshots := c.Status().Snapshots
		v, _ := encodeChange(&store.Change{Kind: store.Put, Last: true, Entry: &store.Entry{
			Key: store.Text("none"), Seq: s.Stats().Seq + 1, Modified: time.Now()}})
		v[len(v)-1] = event.Vector{event.Vector{true, false, string(store.Text("x")), ""}}
		err := masterAt.Publish(ctx, ClonesTopic("hosts"), "zmtpd_store_changes", s.Epoch(),
			event.Vector{v})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		check()
		if st := c.Status(); st.Snapshots != snapshots+1 || st.Stale {
			t.Errorf("after a wrong edit: %+v", st)
		}
		c.Close()
		m.Close()
		masterAt.leave()
		cloneAt.leave()
		s.Close()
	})
}
