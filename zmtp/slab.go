package zmtp

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"zmtpd/zmtp/memory"
)

// Sizes of read buffers in bytes. A connection starts small and grows with what it reads, so that
// thousands of idle peers cost little. Only one that sends a lot without a pause gets a large one.
const (
	minReadBuffer = 1 << 10
	slabSize      = 64 << 10
	largeSlab     = 4 * slabSize
	maxSlab       = 8 << 20 // the largest that comes from a pool
)

// slab is a piece of read memory, which the batches in it share. A slab of one of the sizes in
// slabPools comes from a pool and returns to it with the last release; others are left to the
// garbage collector. Not to release a slab costs time only, without a memory budget.
type slab struct {
	buf  []byte
	pool *sync.Pool // where buf returns to, nil for the garbage collector
	refs atomic.Int32
	// base, unless it is nil, has the memory of buf, and a reference to base is given back with the
	// last release.
	base *slab
	// immutable says that buf is the memory of Messages, which may be kept without a reference.
	immutable bool

	// holder has reserved the memory of buf, nil if it is not counted. It becomes shared once
	// anything but the read loop refers to the slab: then closing the connection does not free it.
	holder atomic.Pointer[memory.Holder]
	shared *memory.Holder

	// Guarded by inbox.mu of the inbox that counts it, if one does.
	pipe *inPipe // of the peer for which it is counted
	kept int     // references: batches that are not released, and a read loop
}

// slabPools are the pools of slabs, by slabClass. The sizes are the powers of two from slabSize to
// maxSlab and those half way between them, so that a message leaves at most a third of its slab
// unused. The garbage collector frees slabs that are not used for a while.
var slabPools [2*7 + 1]sync.Pool

// slabClass returns the smallest class of slabs of at least n bytes, and their size; the size is n
// if there is none.
func slabClass(n int) (class, size int) {
	if n <= slabSize {
		return 0, slabSize
	}
	if n > maxSlab {
		return -1, n
	}
	// n is above slabSize<<octave and at most twice that
	octave := bits.Len(uint(n-1)) - bits.Len(slabSize)
	class, size = 2*octave+2, 2*slabSize<<octave
	if n <= size/4*3 {
		return class - 1, size / 4 * 3
	}
	return class, size
}

// poolOf returns the pool for slabs of size bytes, or nil if there is none.
func poolOf(size int) *sync.Pool {
	if class, exact := slabClass(size); class >= 0 && exact == size {
		return &slabPools[class]
	}
	return nil
}

// newSlab returns a slab of size bytes with one reference.
func newSlab(size int) *slab {
	var s *slab
	pool := poolOf(size)
	if pool != nil {
		s, _ = pool.Get().(*slab)
	}
	if s == nil {
		s = &slab{buf: make([]byte, size), pool: pool}
	}
	s.refs.Store(1)
	return s
}

// slabFor returns the size of a slab for n bytes, one that comes from a pool if that is not much
// more.
func slabFor(n int) int {
	if n <= slabSize/4 {
		return n
	}
	_, size := slabClass(n)
	return size
}

// slabBelow returns the size of the largest slab of at most n bytes, one that comes from a pool if
// there is one.
func slabBelow(n int) int {
	class, size := slabClass(n)
	if class <= 0 || size == n {
		return n
	}
	_, size = slabClass(size/2 + 1) // half of it is the class before the one before it
	return size
}

// newCounted is newSlab with memory that holder has reserved, see slab.holder.
func newCounted(size int, holder, shared *memory.Holder) *slab {
	s := newSlab(size)
	s.holder.Store(holder)
	s.shared = shared
	return s
}

func (s *slab) retain() {
	s.refs.Add(1)
	if old := s.holder.Load(); old != s.shared && s.holder.CompareAndSwap(old, s.shared) {
		s.shared.Add(int64(len(s.buf)))
		old.Release(int64(len(s.buf)))
	}
}

// copyFor returns a slab of size bytes for a copy of messages in s that outlives the connection.
func (s *slab) copyFor(size int) *slab {
	s.shared.Add(int64(size))
	return newCounted(size, s.shared, s.shared)
}

func (s *slab) release() {
	n := s.refs.Add(-1)
	if n < 0 {
		panic("zmtp: slab released twice")
	}
	if n > 0 {
		return
	}
	s.holder.Swap(nil).Release(int64(len(s.buf)))
	s.shared = nil
	if s.base != nil {
		s.base.release()
	}
	if s.pool != nil {
		poison(s.buf)
		s.pool.Put(s)
	}
}
