package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"zmtpd/forwarder/event"
)

var containers = []event.Kind{event.SetOf, event.TableOf, event.VectorOf}

// TestLargeContainers edits containers of all kinds and compares them with what event.Append makes
// of a Go value, which knows nothing of edits. Old values stay as they were.
func TestLargeContainers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(containers).Draw(t, "kind")
		raw, _ := Empty(kind)
		v := Whole(raw)
		model := map[string]string{}
		var list []string
		word := func() string {
			return strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 40, 700}).Draw(t, "length")) +
				fmt.Sprint(rapid.IntRange(0, 200).Draw(t, "word"))
		}
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			before, old := v, v.Raw()
			grow := rapid.IntRange(0, 3).Draw(t, "shrink") > 0
			for range rapid.IntRange(1, 40).Draw(t, "edits") {
				front, w := rapid.Bool().Draw(t, "front"), word()
				switch {
				case kind == event.VectorOf && grow:
					v = v.Push(Text(w), front)
					list = slices.Insert(list, map[bool]int{false: len(list)}[front], w)
				case kind == event.VectorOf:
					var x event.Raw
					v, x = v.Pop(front)
					if len(list) == 0 {
						if x != nil {
							t.Fatalf("%v from an empty vector", x)
						}
						continue
					}
					at := map[bool]int{false: len(list) - 1}[front]
					if string(x) != string(Text(list[at])) {
						t.Fatalf("popped %q, want %q", x, list[at])
					}
					list = slices.Delete(list, at, at+1)
				case grow && kind == event.SetOf:
					v, model[w] = v.Insert(Text(w), nil), ""
				case grow:
					model[w] = word()
					v = v.Insert(Text(w), Text(model[w]))
				default:
					delete(model, w)
					v = v.Remove(Text(w))
				}
			}
			var all any
			switch kind {
			case event.VectorOf:
				all = list
			case event.TableOf:
				all = model
			default:
				set := event.Set{}
				for w := range model {
					set = append(set, w)
				}
				all = set
			}
			want, err := Make(all)
			if got := v.Raw(); err != nil || string(got) != string(want) || len(got) != v.Size() ||
				v.Len() != want.Len() || v.Kind() != kind {
				t.Fatalf("got %d bytes (Size %d), want %d: %v", len(got), v.Size(), len(want), err)
			}
			if string(before.Raw()) != string(old) {
				t.Fatal("an edit has changed the value before it")
			}
			for w := range model {
				if v.Find(Text(w)) == nil {
					t.Fatalf("no %q", w)
				}
			}
			if v.Find(Text("none")) != nil {
				t.Fatal("found what is not there")
			}
			for i, w := range list {
				x, err := Index(v, fixed(event.Count, uint64(i)))
				if err != nil || string(x) != string(Text(w)) {
					t.Fatalf("element %d: %q, %v, want %q", i, x, err, w)
				}
			}
			checkBalance(t, v.tree)
		}
	})
}

func checkBalance(t *rapid.T, r *rope) {
	if r == nil || r.left == nil {
		return
	}
	if d := r.left.height - r.right.height; d < -1 || d > 1 {
		t.Fatalf("heights %d and %d", r.left.height, r.right.height)
	}
	checkBalance(t, r.left)
	checkBalance(t, r.right)
}

// TestContainerCost checks that a change of a large container allocates about what one of a small
// container does, also while the history keeps the changes.
func TestContainerCost(t *testing.T) {
	cost := func(kind event.Kind, n int) uint64 {
		s, err := Open(Config{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		change := func(from, to int) {
			err := s.Update(context.Background(), "", func(tx *Tx) error {
				for i := from; i < to; i++ {
					x := Text(fmt.Sprintf("%09d", i*7919%1_000_000_007))
					if kind == event.TableOf {
						x = build(event.VectorOf, 2, x, Text("value"))
					}
					if _, err := tx.Add(Text("key"), x, kind, time.Time{}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < n; i += 500 {
			change(i, i+500)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		change(n, n+500)
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / 500
	}
	for _, kind := range containers {
		small, large := cost(kind, 500), cost(kind, 8000)
		t.Logf("%v: %d bytes a change with 500 elements, %d with 8,000", kind, small, large)
		if large > 2*small {
			t.Errorf("%v: %d bytes a change with 500 elements, %d with 8,000: it grows with them",
				kind, small, large)
		}
	}
}
