package store

import (
	"bytes"
	"cmp"
	"container/heap"
	"iter"
	"math/rand/v2"
	"time"

	"zmtpd/forwarder/event"
)

// Entry is an entry of a store. It never changes; its memory belongs to the store and may be kept,
// but not be written to.
type Entry struct {
	Key, Value event.Raw
	Expires    time.Time // zero for never
	Seq        uint64    // of the change that made it
	Modified   time.Time
	Who        string // made the change
}

func (e *Entry) size() int64 { return int64(len(e.Key)+len(e.Value)+len(e.Who)) + entryOverhead }

// entryOverhead is what an entry takes beside its bytes, roughly: its structs, its part of the map,
// its pointers in the order.
const entryOverhead = 256

// expired returns whether the entry is absent at a time.
func (e *Entry) expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// entries are entries by key, in the order of keys (a skip list), and by expiry.
type entries struct {
	byKey    map[string]*node
	head     node
	deadline deadlines
	bytes    int64
	expiring int // entries with an expiry; deadline may have more, of entries that have changed
}

const maxLevel = 16 // enough for 4^16 entries

type node struct {
	*Entry
	next []*node
}

func newEntries() *entries {
	return &entries{byKey: make(map[string]*node), head: node{next: make([]*node, maxLevel)}}
}

// compareKeys is event.Compare, and tells 0 from -0, which are two keys.
func compareKeys(a, b event.Raw) int {
	return cmp.Or(event.Compare(a, b), bytes.Compare(a, b))
}

// before returns, for each level, the last node whose key is below a key.
func (t *entries) before(key event.Raw) (path [maxLevel]*node) {
	at := &t.head
	for level := maxLevel - 1; level >= 0; level-- {
		for at.next[level] != nil && compareKeys(at.next[level].Key, key) < 0 {
			at = at.next[level]
		}
		path[level] = at
	}
	return path
}

func (t *entries) get(key event.Raw) *Entry {
	if n := t.byKey[string(key)]; n != nil {
		return n.Entry
	}
	return nil
}

// set makes e the entry of its key, or removes the key's entry if e is nil. It returns the old one.
func (t *entries) set(key event.Raw, e *Entry) (old *Entry) {
	n := t.byKey[string(key)]
	if n != nil {
		old = n.Entry
		t.count(old, -1)
	}
	switch {
	case e == nil && n != nil:
		for level, before := range t.before(key) {
			if level < len(n.next) {
				before.next[level] = n.next[level]
			}
		}
		delete(t.byKey, string(key))
	case e != nil && n != nil:
		n.Entry = e
	case e != nil:
		levels := 1
		for levels < maxLevel && rand.Uint32()%4 == 0 {
			levels++
		}
		n = &node{Entry: e, next: make([]*node, levels)}
		path := t.before(key)
		for level := range n.next {
			n.next[level] = path[level].next[level]
			path[level].next[level] = n
		}
		t.byKey[string(e.Key)] = n
	}
	if e != nil {
		t.count(e, 1)
		if !e.Expires.IsZero() {
			heap.Push(&t.deadline, e)
			t.tidy()
		}
	}
	return old
}

func (t *entries) count(e *Entry, n int) {
	t.bytes += int64(n) * e.size()
	if !e.Expires.IsZero() {
		t.expiring += n
	}
}

// from returns the entries from a key on, in order; all of them for nil.
func (t *entries) from(key event.Raw) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		at := t.head.next[0]
		if key != nil {
			at = t.before(key)[0].next[0]
		}
		for ; at != nil; at = at.next[0] {
			if !yield(at.Entry) {
				return
			}
		}
	}
}

// due returns up to n entries that have expired. They stay in the store.
func (t *entries) due(now time.Time, n int) (due []*Entry) {
	for len(t.deadline) > 0 && len(due) < n && t.deadline[0].expired(now) {
		e := heap.Pop(&t.deadline).(*Entry)
		if t.get(e.Key) == e {
			due = append(due, e)
		}
	}
	for _, e := range due { // until they are removed
		heap.Push(&t.deadline, e)
	}
	return due
}

// tidy removes deadlines of entries that have changed, once most of them are such.
func (t *entries) tidy() {
	if len(t.deadline) < 2*t.expiring+1024 {
		return
	}
	kept := t.deadline[:0]
	for _, e := range t.deadline {
		if t.get(e.Key) == e {
			kept = append(kept, e)
		}
	}
	clear(t.deadline[len(kept):])
	t.deadline = kept
	heap.Init(&t.deadline)
}

// deadlines is a heap of entries, the first to expire first.
type deadlines []*Entry

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].Expires.Before(d[j].Expires) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(*Entry)) }
func (d *deadlines) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return last
}
