package topics

import (
	"iter"
	"slices"
	"sync/atomic"
)

// A Trie tells which subscribers a message reaches. The zero value is empty and ready for use. It must not be copied.
//
// Add and Delete must not run at the same time as each other: that is left to the caller, who usually has a lock
// already. Root, and everything a Root offers, may be called at any time from any goroutine and never blocks.
type Trie[P comparable] struct {
	root atomic.Pointer[Root[P]]

	// The writer's.
	members map[P]member
	free    []uint32 // numbers below limit that no member has
	limit   uint32   // no number so far was as large as this
	gen     uint64
}

// A member is a subscriber with at least one topic.
type member struct {
	id     uint32
	topics int
}

// Root returns the present state, nil while nothing has ever been added; a nil Root is an empty one. Two calls return
// the same pointer if and only if nothing about matching has changed between them, provided that the first result was
// kept: only that keeps its address from being used again.
func (t *Trie[P]) Root() *Root[P] { return t.root.Load() }

// Add subscribes p to topic. fresh tells that p did not hold the topic before, first that nobody did. If p holds it
// already nothing changes. Add keeps topic, and memory of the order of its length.
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

// Delete ends p's subscription to topic. held tells that there was one, last that nobody holds the topic any more.
func (t *Trie[P]) Delete(p P, topic string) (held, last bool) {
	if m, known := t.members[p]; !known || !t.Root().top.find(topic).holds(m.id) {
		return false, false
	}
	r := t.edit()
	last = t.remove(r, p, topic)
	t.root.Store(r)
	return true, last
}

// deleteAll ends p's subscriptions to the topics of gone that are Held, in one change, and sets Last in those that
// nobody holds any more.
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

// edit begins a change: it returns a copy of the present state that is not published yet.
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

// remove takes p, which must be there, from topic's subscribers in r, and tells whether it was the last one.
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

// A Root is one state of a [Trie] or [Table]. It never changes, and is compared by address. A nil Root is empty.
type Root[P comparable] struct {
	top    node[P]
	topics int
	limit  uint32 // every id in it is below
}

// Len returns the number of distinct topics.
func (r *Root[P]) Len() int {
	if r == nil {
		return 0
	}
	return r.topics
}

// Match appends to dst everyone who subscribed to a prefix of topic, each once however many prefixes it holds, in no
// order that means anything, and returns the extended slice. Apart from growing dst it allocates only where somebody
// may hold two of the prefixes and the subscribers are more than 4096. It keeps nothing of topic.
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

// Any tells whether anyone subscribed to a prefix of topic.
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

// idWords is the size of the set of numbers that Match has on its stack, for 4096 subscribers.
const idWords = 64

// matchMore goes on where Match, which has appended found, comes to a second topic with subscribers: from here on
// somebody may turn up again.
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

// Topics ranges over the distinct topics in ascending order of their bytes. Each has a subscriber in this state.
func (r *Root[P]) Topics() iter.Seq[string] {
	type place struct {
		n    *node[P]
		next int // the child to visit
		size int // of the topic up to and with n
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
