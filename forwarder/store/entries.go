package store

import (
	"container/heap"
	"time"
	"unsafe"

	"zmtpd/forwarder/event"
)

// Entry is an entry of a store. It never changes; its memory belongs to the store and may be kept,
// but not be written to.
type Entry struct {
	Key      event.Raw
	Value    Value
	Expires  time.Time // zero for never
	Seq      uint64    // of the change that made it
	Modified time.Time
	Who      string // made the change
}

func (e *Entry) size() int64 {
	all, _ := e.Value.memory()
	return int64(len(e.Key)+len(e.Who)) + all + entryOverhead
}

// entryOverhead is what an entry takes beside its bytes, roughly: its structs, its part of the map,
// its place in the order.
const entryOverhead = 256

// expired returns whether the entry is absent at a time.
func (e *Entry) expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// entries are entries by key, in the order of keys, and by expiry.
type entries struct {
	byKey    map[string]*node
	order    order
	deadline deadlines
	bytes    int64
	expiring int // entries with an expiry; deadline may have more, of entries that have changed
}

// node is the place of the entry of a key. The entries of a key share the memory of the key.
type node struct{ *Entry }

func newEntries() *entries { return &entries{byKey: make(map[string]*node)} }

func (t *entries) get(key event.Raw) *Entry {
	if n := t.byKey[string(key)]; n != nil {
		return n.Entry
	}
	return nil
}

// set makes e the entry of its key, or removes the key's entry if e is nil. It returns the old one.
func (t *entries) set(key event.Raw, e *Entry) (old *Entry) {
	return t.setNode(t.byKey[string(key)], key, e)
}

// setNode is set for the node of the key, nil if there is none.
func (t *entries) setNode(n *node, key event.Raw, e *Entry) (old *Entry) {
	if n != nil {
		old = n.Entry
		t.count(old, -1)
	}
	switch {
	case e == nil && n != nil:
		t.order.remove(key)
		delete(t.byKey, string(key))
	case e != nil && n != nil:
		n.Entry = e
	case e != nil:
		n = &node{e}
		t.order.insert(n)
		t.byKey[unsafe.String(unsafe.SliceData(e.Key), len(e.Key))] = n // the key never changes
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
