package store

import (
	"bytes"

	"zmtpd/forwarder/event"
)

// Edit is a step from a set, a table or a vector to another one.
type Edit struct {
	Remove bool      // takes Key out of a set or table, or an element from an end of a vector
	Front  bool      // of a vector: at its begin
	Key    event.Raw // element of a set or vector, key of a table; nil to remove from a vector
	Value  event.Raw // of an entry of a table that is added; otherwise nil
}

// maxEdits bounds the elements that [Value.Diff] compares.
const maxEdits = 4096

// Diff returns the edits that make v from old. It returns false unless both are large containers
// and share most of their memory, as v does when it was made by some edits. It costs O(log n).
func (v Value) Diff(old Value) (edits []Edit, ok bool) {
	if v.tree == nil || old.tree == nil || v.Kind() != old.Kind() {
		return nil, false
	}
	begin := shared(old.tree, v.tree, true)
	end := min(shared(old.tree, v.tree, false), old.tree.n-begin, v.tree.n-begin)
	if old.tree.n+v.tree.n-2*(begin+end) > maxEdits {
		return nil, false
	}
	before := old.tree.part(begin, old.tree.n-end, nil)
	after := v.tree.part(begin, v.tree.n-end, nil)
	if v.Kind() == event.VectorOf {
		return diffVector(before, after, begin, end)
	}
	return diffSorted(before, after), true
}

// pair is an entry of a table, or an element of a set or vector.
type pair struct{ key, value event.Raw }

func (p pair) equal(q pair) bool {
	return bytes.Equal(p.key, q.key) && bytes.Equal(p.value, q.value)
}

// diffSorted returns the edits from some elements of a set or table to others.
func diffSorted(before, after []pair) (edits []Edit) {
	for len(before) > 0 || len(after) > 0 {
		c := 1
		if len(after) == 0 {
			c = -1
		} else if len(before) > 0 {
			c = event.Compare(before[0].key, after[0].key)
		}
		same := c == 0 && before[0].equal(after[0])
		if c <= 0 {
			if !same {
				edits = append(edits, Edit{Remove: true, Key: before[0].key})
			}
			before = before[1:]
		}
		if c >= 0 {
			if !same {
				edits = append(edits, Edit{Key: after[0].key, Value: after[0].value})
			}
			after = after[1:]
		}
	}
	return edits
}

// diffVector returns the edits from some elements of a vector to others, which have begin elements
// before them and end behind them. It returns false if they are neither at its begin nor at its
// end.
func diffVector(before, after []pair, begin, end int) (edits []Edit, ok bool) {
	prefix, suffix, most := 0, 0, min(len(before), len(after))
	for prefix < most && before[prefix].equal(after[prefix]) {
		prefix++
	}
	for suffix < most && before[len(before)-1-suffix].equal(after[len(after)-1-suffix]) {
		suffix++
	}
	if begin > 0 && end > 0 {
		return nil, prefix == len(before) && prefix == len(after)
	}
	// With repeated elements, both a prefix and a suffix may be the same: one of them stays.
	front := begin == 0 && (end > 0 || suffix > prefix)
	if front {
		before, after = before[:len(before)-suffix], after[:len(after)-suffix]
	} else {
		before, after = before[prefix:], after[prefix:]
	}
	for range before {
		edits = append(edits, Edit{Remove: true, Front: front})
	}
	for i := range after {
		if front {
			i = len(after) - 1 - i
		}
		edits = append(edits, Edit{Front: front, Key: after[i].key})
	}
	return edits, true
}

// Edited returns the value after edits. The error is [InvalidData] if they are none of such a
// value.
func (v Value) Edited(edits []Edit) (Value, error) {
	for _, e := range edits {
		k := v.Kind()
		vector := k == event.VectorOf
		valid := vector || k == event.SetOf || k == event.TableOf
		valid = valid && (e.Key == nil) == (vector && e.Remove)
		valid = valid && (e.Value != nil) == (k == event.TableOf && !e.Remove)
		if !valid {
			return v, Errorf(InvalidData, "this is no edit of a value of type %v", k)
		}
		if e.Remove && vector {
			v, _ = v.Pop(e.Front)
			continue
		}
		if e.Remove {
			v = v.Remove(e.Key)
			continue
		}
		if err := nests(e.Key, e.Value); err != nil {
			return v, err
		}
		if vector {
			v = v.Push(e.Key, e.Front)
		} else {
			v = v.Insert(e.Key, e.Value)
		}
	}
	return v, nil
}

// shared returns how many elements two ropes have in common, in leaves that are the same memory, at
// their begin or at their end.
func shared(a, b *rope, begin bool) (n int) {
	first := func(t *rope, rest []*rope) []*rope {
		if begin {
			return append(rest, t.right, t.left)
		}
		return append(rest, t.left, t.right)
	}
	as, bs := []*rope{a}, []*rope{b}
	for len(as) > 0 && len(bs) > 0 {
		x, y := as[len(as)-1], bs[len(bs)-1]
		switch {
		case x == y:
			n += x.n
			as, bs = as[:len(as)-1], bs[:len(bs)-1]
		case x.left == nil && y.left == nil:
			return n
		case x.height >= y.height:
			as = first(x, as[:len(as)-1])
		default:
			bs = first(y, bs[:len(bs)-1])
		}
	}
	return n
}

// part appends the elements with the places from to to-1.
func (t *rope) part(from, to int, all []pair) []pair {
	switch {
	case to <= 0 || from >= t.n:
		return all
	case t.left != nil:
		all = t.left.part(from, to, all)
		return t.right.part(from-t.left.n, to-t.left.n, all)
	}
	i := 0
	for key, value := range pairs(t.leaf) {
		if i >= from && i < to {
			all = append(all, pair{key, value})
		}
		i++
	}
	return all
}
