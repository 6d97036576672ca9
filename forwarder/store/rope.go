package store

import (
	"encoding/binary"
	"iter"

	"zmtpd/forwarder/event"
)

// rope is the elements of a large container: a binary tree of small containers, balanced as an AVL
// tree is. It never changes. An edit makes a new rope that shares all but one leaf and the nodes
// above it with the old one, so it costs O(log n), and a reader or a snapshot keeps what it has.
type rope struct {
	left, right *rope     // nil for a leaf
	leaf        event.Raw // a container; for a node the leftmost leaf
	n           int       // elements
	size        int       // bytes of the elements
	own         int       // bytes of memory that the rope from which it was made has not
	height      int       // 0 for a leaf
}

const (
	// leafSize is the size of leaves, in bytes. A leaf has up to twice as much, or one element.
	leafSize = 512
	// nodeMemory is what a node takes beside the bytes of a leaf.
	nodeMemory = 96
)

func newLeaf(r event.Raw) *rope {
	return &rope{leaf: r, n: r.Len(), size: len(content(r)), own: len(r) + nodeMemory}
}

func newNode(l, r *rope) *rope {
	return &rope{left: l, right: r, leaf: l.leaf, n: l.n + r.n, size: l.size + r.size,
		height: 1 + max(l.height, r.height)}
}

// newRope returns the rope of a container.
func newRope(r event.Raw) *rope {
	if len(r) <= 2*leafSize || r.Len() < 2 {
		return newLeaf(r)
	}
	var leaves []*rope
	all, from, n := content(r), 0, 0
	for at := range boundaries(r) {
		if n++; at-from >= leafSize || at == len(all) {
			leaves = append(leaves, newLeaf(build(r.Kind(), n, all[from:at])))
			from, n = at, 0
		}
	}
	for len(leaves) > 1 { // neighbours, level by level: heights differ by one at most
		next := leaves[:0]
		for i := 0; i < len(leaves); i += 2 {
			if i+1 == len(leaves) {
				last := len(next) - 1
				next[last] = join(next[last], leaves[i])
				break
			}
			next = append(next, newNode(leaves[i], leaves[i+1]))
		}
		leaves = next
	}
	leaves[0].own = len(r) + len(r)/leafSize*2*nodeMemory
	return leaves[0]
}

// join returns the rope of both, of which at most one has been edited once. Either may be nil.
func join(l, r *rope) *rope {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.height > r.height+1:
		if l.left.height >= l.right.height {
			return newNode(l.left, newNode(l.right, r))
		}
		return newNode(newNode(l.left, l.right.left), newNode(l.right.right, r))
	case r.height > l.height+1:
		if r.right.height >= r.left.height {
			return newNode(newNode(l, r.left), r.right)
		}
		return newNode(newNode(l, r.left.left), newNode(r.left.right, r.right))
	case l.height+r.height == 0 && l.size+r.size <= leafSize:
		return newLeaf(build(l.leaf.Kind(), l.n+r.n, content(l.leaf), content(r.leaf)))
	}
	return newNode(l, r)
}

// edit returns the rope with f(leaf) in the place of one leaf, nil if no element is left. right
// says whether that leaf is below the right one of two.
func (t *rope) edit(right func(l, r *rope) bool, f func(leaf event.Raw) event.Raw) *rope {
	if t.left == nil {
		leaf := f(t.leaf)
		switch {
		case len(leaf) == len(t.leaf) && &leaf[0] == &t.leaf[0]:
			return t
		case leaf.Len() == 0:
			return nil
		case len(leaf) <= 2*leafSize || leaf.Len() == 1:
			return newLeaf(leaf)
		}
		return halves(leaf)
	}
	l, r := t.left, t.right
	if right(l, r) {
		r = r.edit(right, f)
	} else {
		l = l.edit(right, f)
	}
	if l == t.left && r == t.right {
		return t
	}
	own := nodeMemory
	for _, side := range []*rope{l, r} {
		if side != nil && side != t.left && side != t.right {
			own += side.own
		}
	}
	joined := join(l, r)
	if joined != l && joined != r {
		joined.own = own
	}
	return joined
}

// halves returns a leaf that is too large as two leaves.
func halves(r event.Raw) *rope {
	all, n := content(r), 0
	for at := range boundaries(r) {
		if n++; at >= len(all)/2 && n < r.Len() || n == r.Len()-1 {
			return newNode(newLeaf(build(r.Kind(), n, all[:at])),
				newLeaf(build(r.Kind(), r.Len()-n, all[at:])))
		}
	}
	return newLeaf(r)
}

// below returns whether a key belongs to r, behind all elements of l.
func below(key event.Raw) func(l, r *rope) bool {
	return func(_, r *rope) bool { return event.Compare(content(r.leaf), key) <= 0 }
}

// leaf returns the leaf to which a key belongs.
func (t *rope) find(key event.Raw) event.Raw {
	right := below(key)
	for t.left != nil {
		if right(t.left, t.right) {
			t = t.right
		} else {
			t = t.left
		}
	}
	return t.leaf
}

// at returns an element of a vector.
func (t *rope) at(i int) event.Raw {
	for t.left != nil {
		if i < t.left.n {
			t = t.left
		} else {
			i -= t.left.n
			t = t.right
		}
	}
	return element(t.leaf, i)
}

// leaves calls yield with the leaves in order, until it returns false.
func (t *rope) leaves(yield func(event.Raw) bool) bool {
	if t.left == nil {
		return yield(t.leaf)
	}
	return t.left.leaves(yield) && t.right.leaves(yield)
}

// raw returns the container in one piece, a copy.
func (t *rope) raw() event.Raw {
	r := head(t.leaf.Kind(), t.n, t.size)
	t.leaves(func(leaf event.Raw) bool {
		r = append(r, content(leaf)...)
		return true
	})
	return r
}

// content returns the elements of a container as they stand behind one another.
func content(r event.Raw) event.Raw { return r[1+uvarintSize(r.Len()):] }

// head begins a container of n elements, with room for their bytes.
func head(k event.Kind, n, size int) event.Raw {
	r := make(event.Raw, 0, 1+uvarintSize(n)+size)
	return binary.AppendUvarint(append(r, byte(k)), uint64(n))
}

// build makes a container of n elements.
func build(k event.Kind, n int, parts ...event.Raw) event.Raw {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	r := head(k, n, size)
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

// boundaries returns where the elements of a container end in its content.
func boundaries(r event.Raw) iter.Seq[int] {
	return func(yield func(int) bool) {
		at := 0
		for key, value := range pairs(r) {
			if at += len(key) + len(value); !yield(at) {
				return
			}
		}
	}
}

// pairs returns the entries of a table, or the elements of a set or vector with values of nil.
func pairs(r event.Raw) iter.Seq2[event.Raw, event.Raw] {
	if r.Kind() == event.TableOf {
		return r.Entries()
	}
	return func(yield func(event.Raw, event.Raw) bool) {
		for e := range r.Elements() {
			if !yield(e, nil) {
				return
			}
		}
	}
}
