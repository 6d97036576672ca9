// Package recording reads and writes files of recorded ZeroMQ messages: those of a socket, not
// those of each of its connections.
//
// A file is a sequence of messages, with nothing before, between or after them. All integers are
// big-endian.
//
//	message
//	  u32   number of parts
//	  part  for each part
//
//	part
//	  u32   length
//	  ...   that many bytes
package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

const (
	// MaxParts is the largest number of parts of a message.
	MaxParts = 1 << 16
	// MaxMessageSize is the largest size of all parts of a message together, in bytes.
	MaxMessageSize = 1 << 30
)

// readStep is the size of the first allocation for a part, in bytes. Memory grows with the bytes
// that arrive, so a length alone allocates no more.
const readStep = 1 << 20

// ErrTooLarge means that a message has more than MaxParts parts or more than MaxMessageSize bytes.
// Most likely the file is not a recording.
var ErrTooLarge = errors.New("message too large")

// AppendMessage appends the message with the parts to dst. It fails only with ErrTooLarge, and then
// returns dst unchanged.
func AppendMessage(dst []byte, parts ...[]byte) ([]byte, error) {
	if len(parts) > MaxParts {
		return dst, fmt.Errorf("%w: %d parts, at most %d are allowed", ErrTooLarge, len(parts),
			MaxParts)
	}
	size := 0
	for _, p := range parts {
		size += len(p)
		if size > MaxMessageSize {
			return dst, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxMessageSize)
		}
	}
	dst = slices.Grow(dst, 4+4*len(parts)+size)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(parts)))
	for _, p := range parts {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p)))
		dst = append(dst, p...)
	}
	return dst, nil
}

// Reader reads the messages of a recording in order. It reads no further than the message that it
// returns, so give it a bufio.Reader for a file. It is not safe for concurrent use.
type Reader struct {
	r      io.Reader
	offset int64 // offset of the next byte
	num    int   // number of the next message, from 0
}

// NewReader returns a Reader for the messages in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r}
}

// Next returns the parts of the next message, which the caller then owns. It blocks as r does. The
// error is io.EOF after the last message. Every other error names the message and its offset. It
// wraps io.ErrUnexpectedEOF if the file ends within the message, and ErrTooLarge if the message is
// too large.
func (r *Reader) Next() ([][]byte, error) {
	start := r.offset
	parts, err := r.next()
	if err == io.EOF && r.offset == start {
		return nil, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("recording: message %d at offset %d: %w", r.num, start, err)
	}
	r.num++
	return parts, nil
}

// All returns an iterator over the remaining messages. It ends after the last one, or after the
// first error.
func (r *Reader) All() iter.Seq2[[][]byte, error] {
	return func(yield func([][]byte, error) bool) {
		for {
			parts, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(parts, err) || err != nil {
				return
			}
		}
	}
}

func (r *Reader) next() ([][]byte, error) {
	n, err := r.uint32()
	if err != nil {
		return nil, err
	}
	if n > MaxParts {
		return nil, fmt.Errorf("%w: %d parts, at most %d are allowed", ErrTooLarge, n, MaxParts)
	}
	parts := make([][]byte, 0, min(n, 16))
	left := uint32(MaxMessageSize)
	for range n {
		size, err := r.uint32()
		if err != nil {
			return nil, err
		}
		if size > left {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxMessageSize)
		}
		left -= size
		part, err := r.bytes(int(size))
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (r *Reader) uint32() (uint32, error) {
	var b [4]byte
	if err := r.full(b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

func (r *Reader) bytes(size int) ([]byte, error) {
	b := make([]byte, min(size, readStep))
	for have := 0; ; {
		if err := r.full(b[have:]); err != nil {
			return nil, err
		}
		have = len(b)
		if have == size {
			return b, nil
		}
		// memory doubles at most, so a file must have the bytes that it claims
		b = append(b, make([]byte, min(size-have, have))...)
	}
}

// full reads len(b) bytes. It returns io.EOF if there are fewer.
func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.offset += int64(n)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return err
}
