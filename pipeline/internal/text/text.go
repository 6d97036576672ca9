// Package text has the means to render log batches in bounded memory: buffers for text, and quotas
// of bytes within the memory budget of the process.
package text

import (
	"slices"
	"sync"

	"zmtpd/pipeline/zeek"
)

// PieceBytes bounds the capacity in bytes of a buffer for one piece of text: [zeek.PieceBytes], and
// the text that a renderer appends before it notices the limit.
const PieceBytes = zeek.PieceBytes + zeek.PieceBytes/4

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Get returns an empty buffer. Put takes it back.
func Get() *[]byte { return buffers.Get().(*[]byte) }

// Put takes a buffer back. The caller must not use it any more.
func Put(b *[]byte) {
	if cap(*b) > 0 && cap(*b) <= PieceBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// Fit returns a buffer with the content of b and a capacity that is not much larger, for text that
// has to wait. It returns b, or copies b and puts it back.
func Fit(b *[]byte) *[]byte {
	if Fits(*b) {
		return b
	}
	small := slices.Clone(*b)
	Put(b)
	return &small
}

// Fits reports whether the capacity of b is not much larger than its content.
func Fits(b []byte) bool { return cap(b) <= 2*len(b)+1024 }
