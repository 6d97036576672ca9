package store

import (
	"encoding/binary"
	"iter"
	"math"
	"math/bits"
	"unsafe"

	"zmtpd/forwarder/event"
)

// Value is the value of an entry, in the one form in which equal values have equal bytes. It never
// changes. An edit of a large container makes a Value that shares most of its memory with the old
// one. The zero Value has the kind [event.None].
type Value struct {
	raw  event.Raw // nil if there is a tree
	tree *rope     // of a large container
}

// Whole returns a value that is in its one form, as [Make] and Text return it and as a store has
// given it out. Its memory must not be written to.
func Whole(r event.Raw) Value { return Value{raw: r} }

// Raw returns the value in broker-bin-v1. That of a large container may be a copy.
func (v Value) Raw() event.Raw {
	if v.tree != nil {
		return v.tree.raw()
	}
	return v.raw
}

// Size returns the length of Raw.
func (v Value) Size() int {
	if v.tree != nil {
		return 1 + uvarintSize(v.tree.n) + v.tree.size
	}
	return len(v.raw)
}

// memory returns how many bytes the value takes, and how many of them it does not share with the
// value from which it was made.
func (v Value) memory() (all, own int64) {
	if v.tree == nil {
		return int64(len(v.raw)), int64(len(v.raw))
	}
	all = int64(v.tree.size + v.tree.size/leafSize*2*nodeMemory)
	return all, min(all, int64(v.tree.own))
}

// Kind returns the type of the value.
func (v Value) Kind() event.Kind {
	if v.tree != nil {
		return v.tree.leaf.Kind()
	}
	return v.raw.Kind()
}

// Len returns the number of elements of a set or vector, or of entries of a table; 0 for others.
func (v Value) Len() int {
	if v.tree != nil {
		return v.tree.n
	}
	return v.raw.Len()
}

// Same returns whether both are one value in memory: whether an edit has changed nothing.
func (v Value) Same(w Value) bool {
	return v.tree == w.tree && unsafe.SliceData(v.raw) == unsafe.SliceData(w.raw)
}

// Pairs returns the entries of a table, or the elements of a set or vector with values of nil, in
// order. They are part of v. Others have none.
func (v Value) Pairs() iter.Seq2[event.Raw, event.Raw] {
	if v.tree == nil {
		return pairs(v.raw)
	}
	return func(yield func(key, value event.Raw) bool) {
		v.tree.leaves(func(leaf event.Raw) bool {
			for key, value := range pairs(leaf) {
				if !yield(key, value) {
					return false
				}
			}
			return true
		})
	}
}

// Find returns the value of a key of a table, or the element of a set, nil without one. It costs
// O(log n).
func (v Value) Find(key event.Raw) event.Raw {
	leaf := v.raw
	if v.tree != nil {
		leaf = v.tree.find(key)
	}
	switch leaf.Kind() {
	case event.SetOf, event.TableOf:
		at, end := find(leaf, key)
		if leaf.Kind() == event.TableOf && end > at {
			at += len(key)
		}
		if end > at {
			return leaf[at:end:end]
		}
	}
	return nil
}

// Insert returns the value with an element in a set, or with an entry in a table: the element is
// key, and value is nil for a set. Both must be in their one form. It costs O(log n), as do the
// other edits.
func (v Value) Insert(key, value event.Raw) Value {
	return v.edit(below(key), func(leaf event.Raw) event.Raw {
		at, end := find(leaf, key)
		n := 1
		if end > at {
			if n = 0; value == nil {
				return leaf
			}
		}
		return container(leaf, at, end, n, key, value)
	})
}

// Remove returns the value without an element of a set, or without the entry of a key of a table.
func (v Value) Remove(key event.Raw) Value {
	return v.edit(below(key), func(leaf event.Raw) event.Raw {
		at, end := find(leaf, key)
		if at == end {
			return leaf
		}
		return container(leaf, at, end, -1)
	})
}

// Push returns the vector with an element behind the last one, or before the first one.
func (v Value) Push(x event.Raw, front bool) Value {
	return v.edit(outermost(front), func(leaf event.Raw) event.Raw {
		at := len(leaf)
		if front {
			at -= len(content(leaf))
		}
		return container(leaf, at, at, 1, x)
	})
}

// Pop returns the vector without its last or first element, and that element, nil if it is empty.
func (v Value) Pop(front bool) (rest Value, x event.Raw) {
	rest = v.edit(outermost(front), func(leaf event.Raw) event.Raw {
		n := leaf.Len()
		if n == 0 {
			return leaf
		}
		if !front {
			x = element(leaf, n-1)
			return container(leaf, len(leaf)-len(x), len(leaf), -1)
		}
		x = element(leaf, 0)
		at := len(leaf) - len(content(leaf))
		return container(leaf, at, at+len(x), -1)
	})
	return rest, x
}

func outermost(front bool) func(l, r *rope) bool {
	return func(_, _ *rope) bool { return !front }
}

// edit returns the container with f(part) in the place of a part, see rope.edit.
func (v Value) edit(right func(l, r *rope) bool, f func(part event.Raw) event.Raw) Value {
	old := v.tree
	if old == nil {
		old = newRope(v.raw)
	}
	switch t := old.edit(right, f); {
	case t == old:
		return v
	case t == nil:
		return Value{raw: event.Raw{byte(v.Kind()), 0}}
	case t.left == nil:
		return Value{raw: t.leaf}
	default:
		return Value{tree: t}
	}
}

// nests checks that values may be elements of a container: that they are not nested too deeply.
func nests(parts ...event.Raw) error {
	for _, p := range parts {
		if p.Kind() < event.SetOf {
			continue
		}
		if _, err := event.Parse(build(event.VectorOf, 1, p)); err != nil {
			return Errorf(InvalidData, "%v", err)
		}
	}
	return nil
}

// Make returns a Go value as a key or a value of a store. See package event for the types.
func Make(v any) (event.Raw, error) {
	r, err := event.Append(nil, v)
	if err != nil {
		return nil, Errorf(InvalidData, "%v", err)
	}
	return canonical(r)
}

// Text returns a string as a key or a value of a store.
func Text[T string | []byte](text T) event.Raw {
	r := make(event.Raw, 0, 1+binary.MaxVarintLen32+len(text))
	return append(binary.AppendUvarint(append(r, byte(event.String)), uint64(len(text))), text...)
}

// canonical returns a value in the one form in which equal values have equal bytes. It is a copy if
// the value had another form.
func canonical(r event.Raw) (event.Raw, error) {
	switch r.Kind() {
	case event.Count, event.Int, event.Address, event.PortNumber, event.Timestamp, event.Timespan:
		return r, nil
	case event.String, event.EnumValue:
		text, _ := r.Text()
		if len(r)-len(text) == 1+uvarintSize(len(text)) {
			return r, nil
		}
	}
	out, err := event.Append(nil, r.Value())
	if err != nil {
		return nil, Errorf(InvalidData, "%v", err)
	}
	return out, nil
}

func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// add returns the sum of old and x as Broker defines it (broker/detail/appliers.hh): for numbers,
// intervals and strings their sum; a time later by an interval; a vector, set or table with one
// more element. The element of a table is a vector of key and value.
func add(old Value, x event.Raw) (Value, error) {
	switch old.Kind() {
	case event.String:
		return concatenate(old, x)
	case event.VectorOf:
		return old.Push(x, false), nests(x)
	case event.SetOf:
		return old.Insert(x, nil), nests(x)
	case event.TableOf:
		if x.Kind() != event.VectorOf {
			return old, clash("add", x, old.Kind())
		}
		if x.Len() != 2 {
			return old, Errorf(InvalidData, "an element of a table is a vector of key and value")
		}
		key, value := element(x, 0), element(x, 1)
		return old.Insert(key, value), nests(key, value)
	case event.Timestamp:
		return scalar(shift(old.raw, x, 1))
	}
	return scalar(sum(old.raw, x, false))
}

// subtract undoes add: an element is taken out of a set or table, the last one out of a vector.
func subtract(old Value, x event.Raw) (Value, error) {
	switch old.Kind() {
	case event.VectorOf:
		rest, _ := old.Pop(false)
		return rest, nil
	case event.SetOf, event.TableOf:
		return old.Remove(x), nil
	case event.Timestamp:
		return scalar(shift(old.raw, x, -1))
	}
	return scalar(sum(old.raw, x, true))
}

func scalar(r event.Raw, err error) (Value, error) { return Value{raw: r}, err }

// concatenate returns a string with another one behind it.
func concatenate(old Value, x event.Raw) (Value, error) {
	more, ok := x.Text()
	if x.Kind() != event.String || !ok {
		return old, clash("add", x, old.Kind())
	}
	text, _ := old.raw.Text()
	if len(text)+len(more) > math.MaxInt32 {
		return old, Errorf(InvalidData, "the string would have %d bytes", len(text)+len(more))
	}
	return Value{raw: Text(append(text[:len(text):len(text)], more...))}, nil
}

func clash(verb string, x event.Raw, have event.Kind) error {
	return Errorf(TypeClash, "cannot %s a value of type %v, the entry has the type %v", verb,
		x.Kind(), have)
}

// sum adds or subtracts numbers and intervals of the same type.
func sum(old, x event.Raw, minus bool) (event.Raw, error) {
	k := old.Kind()
	verb := "add"
	if minus {
		verb = "subtract"
	}
	if x.Kind() != k {
		return nil, clash(verb, x, k)
	}
	switch k {
	case event.Count:
		a, _ := old.Count()
		b, _ := x.Count()
		total, carry := bits.Add64(a, b, 0)
		if minus {
			total, carry = bits.Sub64(a, b, 0)
		}
		if carry != 0 {
			return nil, outOfRange(verb, old, x)
		}
		return fixed(k, total), nil
	case event.Int, event.Timespan:
		a, b := signed(old), signed(x)
		total, ok := sumSigned(a, b, minus)
		if !ok {
			return nil, outOfRange(verb, old, x)
		}
		return fixed(k, uint64(total)), nil
	case event.Real:
		a, _ := old.Real()
		b, _ := x.Real()
		if minus {
			b = -b
		}
		return event.Append(nil, a+b)
	}
	return nil, clash(verb, x, k)
}

// shift adds an interval to a time, or subtracts it.
func shift(old, x event.Raw, sign int) (event.Raw, error) {
	verb := "add"
	if sign < 0 {
		verb = "subtract"
	}
	if x.Kind() != event.Timespan {
		return nil, clash(verb, x, event.Timestamp)
	}
	total, ok := sumSigned(signed(old), signed(x), sign < 0)
	if !ok {
		return nil, outOfRange(verb, old, x)
	}
	return fixed(event.Timestamp, uint64(total)), nil
}

func outOfRange(verb string, old, x event.Raw) error {
	return Errorf(InvalidData, "cannot %s %s: the entry is %s, and the result does not fit a %v", verb,
		event.AppendText(nil, x), event.AppendText(nil, old), old.Kind())
}

func sumSigned(a, b int64, minus bool) (int64, bool) {
	if minus {
		total := a - b
		return total, (total < a) == (b > 0)
	}
	total := a + b
	return total, (total > a) == (b > 0)
}

// signed returns the payload of a value of 64 bits with a sign.
func signed(r event.Raw) int64 { return int64(binary.BigEndian.Uint64(r[1:])) }

func fixed(k event.Kind, v uint64) event.Raw {
	return binary.BigEndian.AppendUint64(event.Raw{byte(k)}, v)
}

// Empty returns the value from which an Add to an absent entry begins: an empty container or
// string, or zero.
func Empty(k event.Kind) (event.Raw, error) {
	switch k {
	case event.Count, event.Int, event.Real, event.Timestamp, event.Timespan:
		return fixed(k, 0), nil
	case event.String, event.SetOf, event.TableOf, event.VectorOf:
		return event.Raw{byte(k), 0}, nil
	}
	return nil, Errorf(TypeClash, "nothing can be added to a value of type %v", k)
}

// find returns where the element of a set, or the entry with a key of a table, begins and ends. If
// there is none, both are the place where it belongs.
func find(r, x event.Raw) (at, end int) {
	at = len(r) - len(content(r))
	for key, value := range pairs(r) {
		size := len(key) + len(value)
		if c := event.Compare(key, x); c == 0 {
			return at, at + size
		} else if c > 0 {
			break
		}
		at += size
	}
	return at, at
}

// container returns a container of n more elements in which parts stand in place of r[at:end].
func container(r event.Raw, at, end, n int, parts ...event.Raw) event.Raw {
	size := at + len(r) - end
	for _, p := range parts {
		size += len(p)
	}
	out := append(head(r.Kind(), r.Len()+n, size), r[len(r)-len(content(r)):at]...)
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, r[end:]...)
}

func element(r event.Raw, i int) event.Raw {
	for e := range r.Elements() {
		if i == 0 {
			return e
		}
		i--
	}
	return nil
}

// Index returns a part of a value as Broker does (broker/detail/appliers.hh): of a table the value
// of a key, of a vector an element, of a set whether it has an element, of all others themselves.
func Index(value Value, index event.Raw) (event.Raw, error) {
	index, err := canonical(index)
	if err != nil {
		return nil, err
	}
	switch value.Kind() {
	case event.VectorOf:
		i, ok := index.Count()
		if n, isInt := index.Int(); isInt && n >= 0 {
			i, ok = uint64(n), true
		}
		if !ok {
			return nil, Errorf(TypeClash, "the index of a vector is a count, not a value of type %v",
				index.Kind())
		}
		if i >= uint64(value.Len()) {
			return nil, Errorf(NoSuchKey, "the vector has %d elements", value.Len())
		}
		if value.tree != nil {
			return value.tree.at(int(i)), nil
		}
		return element(value.raw, int(i)), nil
	case event.SetOf:
		return event.Append(nil, value.Find(index) != nil)
	case event.TableOf:
		if part := value.Find(index); part != nil {
			return part, nil
		}
		return nil, Errorf(NoSuchKey, "the table has no such key")
	}
	return value.raw, nil
}
