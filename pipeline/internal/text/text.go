// Package text has what sinks need to render log batches in bounded memory: buffers for text, and
// quotas of bytes within the memory budget of the process.
package text

import (
	"slices"
	"sync"

	"zmtpd/pipeline/zeek"
)

// PieceBytes is the capacity of a buffer in which a piece of text is rendered, in bytes at most:
// [zeek.PieceBytes], and what comes behind that limit.
const PieceBytes = zeek.PieceBytes + zeek.PieceBytes/4

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Get returns an empty buffer, which Put takes back.
func Get() *[]byte { return buffers.Get().(*[]byte) }

// Put takes a buffer back, which the caller uses no more.
func Put(b *[]byte) {
	if cap(*b) > 0 && cap(*b) <= PieceBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// Fit returns a buffer with the content of b whose capacity is not much larger than that, for text
// that has to wait. It is b, or another one, and then b goes back.
func Fit(b *[]byte) *[]byte {
	if Fits(*b) {
		return b
	}
	small := slices.Clone(*b)
	Put(b)
	return &small
}

// Fits reports whether b is not much larger than its content.
func Fits(b []byte) bool { return cap(b) <= 2*len(b)+1024 }
