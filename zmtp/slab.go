package zmtp

import (
	"sync"
	"sync/atomic"
)

// Sizes of read buffers in bytes. A connection starts small and grows with what it reads, so that thousands of idle
// peers cost little. Only one that sends a lot without a pause gets a large one.
const (
	minReadBuffer = 1 << 10
	slabSize      = 64 << 10
	largeSlab     = 4 * slabSize
)

// slab is a piece of read memory that may be shared by the batches in it. Slabs of slabSize and of largeSlab come from a pool
// and return to it with the last release; others are left to the garbage collector. A slab that is never released is
// slow, not wrong.
type slab struct {
	buf  []byte
	refs atomic.Int32
}

var (
	slabPool      = sync.Pool{New: func() any { return &slab{buf: make([]byte, slabSize)} }}
	largeSlabPool = sync.Pool{New: func() any { return &slab{buf: make([]byte, largeSlab)} }}
)

// poolOf returns the pool for slabs of size bytes, or nil if there is none.
func poolOf(size int) *sync.Pool {
	switch size {
	case slabSize:
		return &slabPool
	case largeSlab:
		return &largeSlabPool
	}
	return nil
}

// newSlab returns a slab of at least size bytes with one reference.
func newSlab(size int) *slab {
	var s *slab
	if pool := poolOf(size); pool != nil {
		s = pool.Get().(*slab)
	} else {
		s = &slab{buf: make([]byte, size)}
	}
	s.refs.Store(1)
	return s
}

func (s *slab) retain() { s.refs.Add(1) }

func (s *slab) release() {
	n := s.refs.Add(-1)
	if n < 0 {
		panic("zmtp: slab released twice")
	}
	if n > 0 || cap(s.buf) != len(s.buf) {
		return
	}
	if pool := poolOf(len(s.buf)); pool != nil {
		poison(s.buf)
		pool.Put(s)
	}
}
