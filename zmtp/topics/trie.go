package topics

import (
	"iter"
	"slices"
	"sync/atomic"
)

// A Trie finds the subscribers of a message. The zero value is empty and ready for use. A Trie must
// not be copied.
//
// The caller must make sure that only one Add or Delete runs at a time. Root and the methods of
// [Root] may be called at any time from any goroutine. They never block.
type Trie[P comparable] struct {
	root atomic.Pointer[Root[P]]

	// used by the writer only
	members map[P]member
	free    []uint32 // ids below limit that no member has
	limit   uint32   // above all ids so far
	gen     uint64
}

// A member is a subscriber with at least one topic.
type member struct {
	id     uint32
	topics int
}

// Root returns the current state, nil (an empty Root) before the first Add. Two calls return the
// same pointer if and only if matching has not changed between them. The caller must keep the first
// result while it compares: otherwise its address may be used again.
func (t *Trie[P]) Root() *Root[P] { return t.root.Load() }

// Add subscribes p to topic. fresh says that p did not hold the topic before, first that no
// subscriber did. If p holds it already, nothing changes. Add keeps topic.
func (t *Trie[P]) Add(p P, topic string) (fresh, first bool) {
	m, known := t.members[p]
	if old := t.Root(); known && old != nil && old.top.find(topic).holds(m.id) {
		return false, false
	}
	if !known {
		m.id = t.newID()
	}
	m.topics++
	if t.members == nil {
		t.members = make(map[P]member)
	}
	t.members[p] = m

	r := t.edit()
	n := r.top.descend(topic, t.gen)
	first = len(n.subs) == 0
	if first {
		r.topics++
	}
	i, _ := slices.BinarySearchFunc(n.subs, m.id, compareID[P])
	subs := make([]entry[P], 0, len(n.subs)+1)
	subs = append(subs, n.subs[:i]...)
	subs = append(subs, entry[P]{p, m.id})
	n.subs = append(subs, n.subs[i:]...)
	t.root.Store(r)
	return true, first
}

// Delete ends p's subscription to topic. held says that there was one, last that no subscriber
// holds the topic any more.
func (t *Trie[P]) Delete(p P, topic string) (held, last bool) {
	if m, known := t.members[p]; !known || !t.Root().top.find(topic).holds(m.id) {
		return false, false
	}
	r := t.edit()
	last = t.remove(r, p, topic)
	t.root.Store(r)
	return true, last
}

// deleteAll ends, in one change, p's subscriptions to those topics of gone that are Held. It sets
// Last if no subscriber holds the topic any more.
func (t *Trie[P]) deleteAll(p P, gone []Removed) {
	if !slices.ContainsFunc(gone, func(g Removed) bool { return g.Held }) {
		return
	}
	r := t.edit()
	for i := range gone {
		if g := &gone[i]; g.Held {
			g.Last = t.remove(r, p, g.Topic)
		}
	}
	t.root.Store(r)
}

// edit begins a change. It returns a copy of the current state, not published yet.
func (t *Trie[P]) edit() *Root[P] {
	t.gen++
	r := &Root[P]{}
	if old := t.Root(); old != nil {
		*r = *old
	}
	r.top = *r.top.clone(t.gen)
	r.limit = t.limit
	return r
}

// remove removes p from the subscribers of topic in r, of which it must be one. It reports whether
// p was the last one.
func (t *Trie[P]) remove(r *Root[P], p P, topic string) (last bool) {
	m := t.members[p]
	parent, n, at := (*node[P])(nil), &r.top, 0
	for rest := topic; len(rest) > 0; rest = rest[len(n.label):] {
		parent, at = n, n.index(rest[0])
		n = parent.own(at, t.gen)
	}
	i, _ := slices.BinarySearchFunc(n.subs, m.id, compareID[P])
	if len(n.subs) > 1 {
		subs := make([]entry[P], 0, len(n.subs)-1)
		n.subs = append(append(subs, n.subs[:i]...), n.subs[i+1:]...)
	} else {
		last = true
		n.subs = nil
		r.topics--
		if parent != nil {
			parent.prune(at, parent == &r.top)
		}
	}
	if m.topics--; m.topics > 0 {
		t.members[p] = m
	} else {
		delete(t.members, p)
		t.free = append(t.free, m.id)
	}
	return last
}

func (t *Trie[P]) newID() uint32 {
	if n := len(t.free); n > 0 {
		id := t.free[n-1]
		t.free = t.free[:n-1]
		return id
	}
	t.limit++
	return t.limit - 1
}

// A Root is one state of a [Trie] or [Table]. It never changes and is compared by address. A nil
// Root is empty.
type Root[P comparable] struct {
	top    node[P]
	topics int
	limit  uint32 // above every id in it
}

// Len returns the number of distinct topics.
func (r *Root[P]) Len() int {
	if r == nil {
		return 0
	}
	return r.topics
}

// Match appends the subscribers of all prefixes of topic to dst, each once and in no particular
// order, and returns the extended slice. It does not keep topic. It allocates to grow dst and, with
// more than 4096 subscribers, if several prefixes have subscribers.
func (r *Root[P]) Match(dst []P, topic []byte) []P {
	if r == nil {
		return dst
	}
	n := &r.top
	for len(n.subs) == 0 {
		if n, topic = n.step(topic); n == nil {
			return dst
		}
	}
	found := n.subs
	for _, e := range found {
		dst = append(dst, e.p)
	}
	for {
		if n, topic = n.step(topic); n == nil {
			return dst
		}
		if len(n.subs) > 0 {
			return r.matchMore(dst, found, n, topic)
		}
	}
}

// Any reports whether a prefix of topic has a subscriber.
func (r *Root[P]) Any(topic []byte) bool {
	if r == nil {
		return false
	}
	n := &r.top
	for n != nil && len(n.subs) == 0 {
		n, topic = n.step(topic)
	}
	return n != nil
}

// idWords is the size in words of the set of ids on Match's stack. It has room for 4096
// subscribers.
const idWords = 64

// matchMore continues Match at n, the second prefix with subscribers. found are the subscribers of
// the first one, which dst already has. From here on a subscriber may occur again.
func (r *Root[P]) matchMore(dst []P, found []entry[P], n *node[P], topic []byte) []P {
	var array [idWords]uint64
	seen := array[:]
	if r.limit > idWords*64 {
		seen = make([]uint64, (r.limit+63)/64)
	}
	for _, e := range found {
		seen[e.id/64] |= 1 << (e.id % 64)
	}
	for n != nil {
		for _, e := range n.subs {
			word, bit := &seen[e.id/64], uint64(1)<<(e.id%64)
			if *word&bit == 0 {
				*word |= bit
				dst = append(dst, e.p)
			}
		}
		n, topic = n.step(topic)
	}
	return dst
}

// Topics returns an iterator over the distinct topics with subscribers, in ascending order of their
// bytes.
func (r *Root[P]) Topics() iter.Seq[string] {
	type place struct {
		n    *node[P]
		next int // index of the child to visit next
		size int // length of the topic up to and with n
	}
	return func(yield func(string) bool) {
		if r == nil {
			return
		}
		if len(r.top.subs) > 0 && !yield("") {
			return
		}
		var topic []byte
		path := []place{{n: &r.top}}
		for len(path) > 0 {
			here := &path[len(path)-1]
			if here.next == len(here.n.children) {
				path = path[:len(path)-1]
				continue
			}
			n := here.n.children[here.next]
			here.next++
			topic = append(topic[:here.size], n.label...)
			if len(n.subs) > 0 && !yield(string(topic)) {
				return
			}
			path = append(path, place{n: n, size: len(topic)})
		}
	}
}
