package pipeline

import (
	"sync"
	"sync/atomic"

	"zmtpd/zmtp/memory"
)

// Who holds the memory of a batch, and how long.

// shared is the memory of messages that are written independently.
type shared struct {
	uses atomic.Int32
	free func() // when nobody uses it any more
}

// newShared returns memory with one user.
func newShared(free func()) *shared {
	s := &shared{free: free}
	s.uses.Store(1)
	return s
}

func (s *shared) retain() { s.uses.Add(1) }

func (s *shared) release() {
	if s.uses.Add(-1) == 0 {
		s.free()
	}
}

// take is what the sink calls when it has no more need of an item's memory. Only what is not in the
// spool, and may have to go there, is kept: by itself if it is small, else it would hold the memory
// of others.
func (o *Outlet) take(it *item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	it.taken = true
	switch {
	case it.place == nil:
	case o.spool == nil || it.spooled:
		o.forget(it)
	case it.size < keptSize:
		memory := it.memory
		it.memory = o.kept.hold(it, o.memory)
		memory.release()
	}
}

// forget gives the memory of an item back that is not done. The caller holds mu.
func (o *Outlet) forget(it *item) {
	it.memory.release()
	it.memory, it.raw, it.Node = nil, nil, nil
	o.bytes -= it.size
	it.size = 0
	o.changed.Broadcast()
}

// keptSize is from which size in bytes on a batch has memory mostly to itself: zmtp reads such
// messages so.
const keptSize = 64 << 10

// arena is memory for small items, one behind the other.
type arena struct {
	free   []byte
	memory *shared // with the arena as one of its users, nil for none yet
}

// hold copies an item into the arena and returns its memory, of which it is a user. holder counts
// the arena.
func (a *arena) hold(it *item, holder *memory.Holder) *shared {
	n := len(it.Node) + len(it.raw)
	if len(a.free) < n {
		if a.memory != nil {
			a.memory.release()
		}
		block := arenaPool.Get().(*[4 * keptSize]byte)
		holder.Add(int64(len(block)))
		a.free, a.memory = block[:], newShared(func() {
			holder.Release(int64(len(block)))
			arenaPool.Put(block)
		})
	}
	nodes := copy(a.free, it.Node)
	copy(a.free[nodes:], it.raw)
	it.Node, it.raw = a.free[:nodes:nodes], a.free[nodes:n:n]
	a.free = a.free[n:]
	a.memory.retain()
	return a.memory
}

// end gives up what is free in the arena.
func (a *arena) end() {
	if a.memory != nil {
		a.memory.release()
		a.free, a.memory = nil, nil
	}
}

var arenaPool = sync.Pool{New: func() any { return new([4 * keptSize]byte) }}
