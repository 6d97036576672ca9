package zmtp

import (
	"sync"
	"sync/atomic"
)

// Sizes of read buffers in bytes. A connection starts small and grows with what it reads, so that thousands of idle
// peers cost little.
const (
	minReadBuffer = 1 << 10
	slabSize      = 64 << 10
)

// slab is a piece of read memory that may be shared by the batches in it. Slabs of slabSize come from a pool and return
// to it with the last release; others are left to the garbage collector. A slab that is never released is slow, not wrong.
type slab struct {
	buf  []byte
	refs atomic.Int32
}

var slabPool = sync.Pool{New: func() any { return &slab{buf: make([]byte, slabSize)} }}

// newSlab returns a slab of at least size bytes with one reference.
func newSlab(size int) *slab {
	var s *slab
	if size == slabSize {
		s = slabPool.Get().(*slab)
	} else {
		s = &slab{buf: make([]byte, size)}
	}
	s.refs.Store(1)
	return s
}

func (s *slab) retain() { s.refs.Add(1) }

func (s *slab) release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("zmtp: slab released twice")
	case n == 0 && cap(s.buf) == slabSize && len(s.buf) == slabSize:
		poison(s.buf)
		slabPool.Put(s)
	}
}
