package spool

import (
	"hash/crc32"
	"io"
	"slices"
)

// Room returns memory for the content of a record, of exactly size bytes, or nil to pass over the
// record without reading it. ok is false if there is no memory now.
type Room func(size int) (record []byte, ok bool)

// reuse is a Room in one buffer that grows to the largest record.
func reuse(buf []byte) Room {
	return func(size int) ([]byte, bool) {
		if buf = slices.Grow(buf[:0], size)[:size]; buf == nil {
			buf = []byte{}
		}
		return buf, true
	}
}

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

// next returns the next good record, in memory that room gives it, and steps over it and over
// records with damaged content before it: seq-1 is its number. The segment has a readable part that
// ends at end, and all numbers are below limit.
//
// The error is io.EOF if there is no further good record. Then the cursor is where no next record
// can be found: at the end, or before it if the rest of the segment is unreadable. All other errors
// are ErrNoRoom or of the file, and leave the cursor at the record.
func (c *cursor) next(f io.ReaderAt, end int64, limit Seq, room Room) ([]byte, error) {
	for c.seq < limit && end-c.off >= recordHeader {
		head, err := c.view(f, c.off, recordHeader, end)
		if err != nil {
			return nil, err
		}
		length, sum, ok := c.sum.parseHeader(head, c.seq)
		if !ok || length > end-c.off-recordHeader {
			break
		}
		record, ok := room(int(length))
		if !ok {
			return nil, ErrNoRoom
		}
		if record != nil {
			if err := c.content(f, c.off+recordHeader, end, record); err != nil {
				return nil, err
			}
		}
		c.off += recordHeader + length
		c.seq++
		if record == nil || crc32.Checksum(record, castagnoli) == sum {
			return record, nil
		}
		c.damaged += recordHeader + length
	}
	return nil, io.EOF
}

// content reads what is at an offset into dst.
func (c *cursor) content(f io.ReaderAt, off, end int64, dst []byte) error {
	if len(dst) <= windowSize {
		b, err := c.view(f, off, len(dst), end)
		copy(dst, b)
		return err
	}
	return readFull(f, dst, off)
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
