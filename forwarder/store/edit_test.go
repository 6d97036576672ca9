package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"zmtpd/forwarder/event"
)

// TestDiff: the edits between two versions of a container make one from the other, at every
// distance, and they are few if the versions are near each other.
func TestDiff(t *testing.T) {
	number := func(i uint64) event.Raw { return mustMake(t, i) }
	rapid.Check(t, func(t *rapid.T) {
		kinds := []event.Kind{event.SetOf, event.TableOf, event.VectorOf}
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		raw, err := Empty(kind)
		if err != nil {
			t.Fatal(err)
		}
		v := Whole(raw)
		edit := func(i int) {
			key, value := number(uint64(i)), event.Raw(nil)
			front := rapid.Bool().Draw(t, "front")
			remove := rapid.IntRange(0, 3).Draw(t, "remove") == 0
			switch {
			case kind == event.VectorOf && remove:
				v, _ = v.Pop(front)
			case kind == event.VectorOf:
				v = v.Push(key, front)
			case remove:
				v = v.Remove(key)
			default:
				if kind == event.TableOf {
					value = number(rapid.Uint64Range(0, 3).Draw(t, "value"))
				}
				v = v.Insert(key, value)
			}
		}
		for i := range rapid.IntRange(0, 2000).Draw(t, "elements") {
			key, value := number(uint64(2*i)), event.Raw(nil)
			if kind == event.TableOf {
				value = key
			}
			if kind == event.VectorOf {
				v = v.Push(key, false)
			} else {
				v = v.Insert(key, value)
			}
		}
		old := v
		n := rapid.IntRange(0, 5).Draw(t, "edits")
		for range n {
			edit(rapid.IntRange(0, 4000).Draw(t, "element"))
		}
		edits, ok := v.Diff(old)
		if !ok {
			if n <= 1 && v.tree != nil && old.tree != nil {
				t.Fatalf("after %d edits the versions are compared in vain", n)
			}
			return
		}
		if len(edits) > 2*n && (kind != event.VectorOf || n <= 1) { // both ends may have changed
			t.Fatalf("%d edits are found, %d were made", len(edits), n)
		}
		again, err := Whole(old.Raw()).Edited(edits)
		if err != nil || !bytes.Equal(again.Raw(), v.Raw()) {
			t.Fatalf("%d edits make another value, error %v", len(edits), err)
		}
	})
}

// TestDiffOfRepeatedElements: one element more or less at an end is one edit, also if its neighbour
// is the same.
func TestDiffOfRepeatedElements(t *testing.T) {
	x := mustMake(t, "x")
	raw, err := Empty(event.VectorOf)
	if err != nil {
		t.Fatal(err)
	}
	old := Whole(raw)
	for range 2000 { // enough for a tree
		old = old.Push(x, false)
	}
	for _, front := range []bool{false, true} {
		less, _ := old.Pop(front)
		for _, v := range []Value{less, old.Push(x, front)} {
			edits, ok := v.Diff(old)
			again, err := old.Edited(edits)
			if !ok || len(edits) != 1 || err != nil || !bytes.Equal(again.Raw(), v.Raw()) {
				t.Errorf("front %v: %d edits, %v, %v", front, len(edits), ok, err)
			}
		}
	}
}

// TestEditedRefuses: edits that do not fit the value are errors.
func TestEditedRefuses(t *testing.T) {
	x := mustMake(t, "x")
	for kind, edits := range map[event.Kind][]Edit{
		event.SetOf:    {{Key: x, Value: x}, {}, {Remove: true}},
		event.TableOf:  {{Key: x}, {Key: x, Value: x, Remove: true}, {Value: x}},
		event.VectorOf: {{}, {Key: x, Remove: true}, {Key: x, Value: x}},
		event.String:   {{Key: x}, {Remove: true}},
	} {
		raw, _ := Empty(kind)
		for _, e := range edits {
			if _, err := Whole(raw).Edited([]Edit{e}); err == nil {
				t.Errorf("%v takes %+v", kind, e)
			}
		}
	}
}

// BenchmarkStoreLargeSet measures what a change of a set of 100,000 elements costs for clones, and
// for a file, which gets it whole.
func BenchmarkStoreLargeSet(b *testing.B) {
	raw, err := Empty(event.SetOf)
	if err != nil {
		b.Fatal(err)
	}
	v := Whole(raw)
	for i := range uint64(100_000) {
		v = v.Insert(mustMake(b, 2*i), nil)
	}
	b.Run("clones", func(b *testing.B) {
		b.ReportAllocs()
		old := v
		for i := range uint64(b.N) {
			next := old.Insert(mustMake(b, 2*(i%100_000)+1), nil)
			if edits, ok := next.Diff(old); !ok || len(edits) > 1 {
				b.Fatal(edits, ok)
			}
			old = next
		}
	})
	b.Run("file", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			v.Raw()
		}
		b.ReportMetric(float64(v.Size()), "bytes")
	})
}
