package files

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
)

// gzipStream compresses a log while it is written. A file is one gzip member, as in Zeek, unless it
// was parked; then each time adds one. Every flush can be decompressed at once, which costs a few
// bytes; Zeek waits until its buffer is full.
type gzipStream struct {
	w      *gzip.Writer
	out    bytes.Buffer // not in the file yet
	closed bool
}

func newGzipStream(level int) (*gzipStream, error) {
	z := &gzipStream{}
	var err error
	z.w, err = gzip.NewWriterLevel(&z.out, level)
	return z, err
}

// add compresses text, and ends the member if text is the last. Writing to a buffer cannot fail.
func (z *gzipStream) add(text []byte, last bool) {
	if len(text) > 0 {
		if z.closed { // another member follows
			z.w.Reset(&z.out)
			z.closed = false
		}
		_, _ = z.w.Write(text)
		_ = z.w.Flush()
	}
	if last && !z.closed {
		_ = z.w.Close()
		z.closed = true
	}
}

// pending reports whether there is something to write; last says that the member has to end.
func (z *gzipStream) pending(last bool) bool {
	return z != nil && (z.out.Len() > 0 || last && !z.closed)
}

// reset begins a new stream and drops the output that is not in the file.
func (z *gzipStream) reset() {
	z.out.Reset()
	z.w.Reset(&z.out)
	z.closed = false
}

// written drops the output, which is in the file.
func (z *gzipStream) written() {
	if z.out.Cap() > flushSize {
		z.out = bytes.Buffer{}
		return
	}
	z.out.Reset()
}
