package files

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
)

// gzipStream compresses a log while it is written: one gzip member a file, as in
// Zeek. What is added can be decompressed as soon as it is in the file, which
// costs a few bytes each time; Zeek's waits for its buffer to fill.
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

// add compresses text, and ends the stream if text is the last. A buffer takes
// everything, so there are no errors.
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

// pending reports whether something is not in the file yet, if this is the last or not.
func (z *gzipStream) pending(last bool) bool {
	return z != nil && (z.out.Len() > 0 || last && !z.closed)
}

// reset begins a new stream and drops what is not in the file yet.
func (z *gzipStream) reset() {
	z.out.Reset()
	z.w.Reset(&z.out)
	z.closed = false
}

// written drops what is in the file now.
func (z *gzipStream) written() {
	if z.out.Cap() > keepSize {
		z.out = bytes.Buffer{}
		return
	}
	z.out.Reset()
}
