package pipeline

import (
	"sync"
	"sync/atomic"

	"zmtpd/zmtp/memory"
)

// shared is the memory of messages with several users, such as outlets. It counts them.
type shared struct {
	uses atomic.Int32
	free func() // called when the last user releases it
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

// take is Entry.Taken. The outlet keeps an item that is not in the spool and may have to go there.
// It copies a small one, which would otherwise hold the memory of others.
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

// forget releases the memory of an item that is not done. The caller holds mu.
func (o *Outlet) forget(it *item) {
	it.memory.release()
	it.memory, it.raw, it.Node = nil, nil, nil
	o.bytes -= it.size
	it.size = 0
	o.changed.Broadcast()
}

// keptSize is the size in bytes from which a batch has its memory mostly to itself: zmtp reads such
// messages into memory of their own.
const keptSize = 64 << 10

// arena is memory for copies of small items, one behind the other.
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
