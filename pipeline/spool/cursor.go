package spool

import (
	"hash/crc32"
	"io"
	"slices"
)

// windowSize is how much a cursor reads at a time: the system reads ahead
// anyway, this is to save calls.
const windowSize = 128 << 10

// cursor reads the records of a segment one after the other. The zero value has to be placed.
type cursor struct {
	off     int64 // of the record that comes next
	seq     Seq   // its number
	damaged int64 // bytes that were skipped since the cursor was placed

	window    []byte // what the file holds from windowOff on
	windowOff int64
	sum       headerSum
}

// place puts the cursor before the first record of a segment.
func (c *cursor) place(first Seq) {
	c.off, c.seq, c.damaged = segmentHeader, first, 0
	c.window, c.windowOff = c.window[:0], 0
}

// next returns the next good record in buf, which may be a larger one then, and steps over it and
// over records with damaged content before it: seq-1 is its number. The segment has a readable part
// that ends at end, and all numbers are below limit.
//
// The error is io.EOF if there is no further good record. Then the cursor is where no next record
// can be found: at the end, or before it if the rest of the segment is unreadable. All other errors
// are of the file, and leave the cursor at the record.
func (c *cursor) next(f io.ReaderAt, end int64, limit Seq, buf []byte) ([]byte, error) {
	for c.seq < limit && end-c.off >= recordHeader {
		head, err := c.view(f, c.off, recordHeader, end)
		if err != nil {
			return buf, err
		}
		length, sum, ok := c.sum.parseHeader(head, c.seq)
		if !ok || length > end-c.off-recordHeader {
			break
		}
		if buf, err = c.content(f, c.off+recordHeader, int(length), end, buf); err != nil {
			return buf, err
		}
		c.off += recordHeader + length
		c.seq++
		if crc32.Checksum(buf, castagnoli) == sum {
			return buf, nil
		}
		c.damaged += recordHeader + length
	}
	return buf, io.EOF
}

// content returns the n bytes at an offset in buf, or in a larger one.
func (c *cursor) content(f io.ReaderAt, off int64, n int, end int64, buf []byte) ([]byte, error) {
	if n <= windowSize {
		b, err := c.view(f, off, n, end)
		return append(buf[:0], b...), err
	}
	buf = slices.Grow(buf[:0], n)[:n]
	return buf, readFull(f, buf, off)
}

// view returns n bytes of the file, at most windowSize, of which all are before end. They are valid
// until the next call.
func (c *cursor) view(f io.ReaderAt, off int64, n int, end int64) ([]byte, error) {
	if off < c.windowOff || off+int64(n) > c.windowOff+int64(len(c.window)) {
		if c.window == nil {
			c.window = make([]byte, windowSize)
		}
		c.window, c.windowOff = c.window[:min(windowSize, end-off)], off
		if err := readFull(f, c.window, off); err != nil {
			c.window = c.window[:0]
			return nil, err
		}
	}
	i := off - c.windowOff
	return c.window[i : i+int64(n)], nil
}

// readFull reads what is known to be in the file: its end is an error like others.
func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
