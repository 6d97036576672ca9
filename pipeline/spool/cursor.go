package spool

import (
	"hash/crc32"
	"io"
	"slices"
)

// Room returns memory of exactly size bytes for the content of a record, or nil if the record is to
// be skipped. If there is no memory now, ok is false.
type Room func(size int) (record []byte, ok bool)

// reuse returns a Room with one buffer that grows to the largest record.
func reuse(buf []byte) Room {
	return func(size int) ([]byte, bool) {
		if buf = slices.Grow(buf[:0], size)[:size]; buf == nil {
			buf = []byte{}
		}
		return buf, true
	}
}

// windowSize is the size of a cursor's reads. The system reads ahead anyway; large reads save
// calls.
const windowSize = 128 << 10

// cursor reads the records of a segment in order. Call place before its first use.
type cursor struct {
	off     int64 // offset of the next record
	seq     Seq   // number of the next record
	damaged int64 // bytes skipped since the cursor was placed

	window    []byte // content of the file from windowOff on
	windowOff int64
	sum       headerSum
}

// place puts the cursor at the first record of a segment.
func (c *cursor) place(first Seq) {
	c.off, c.seq, c.damaged = segmentHeader, first, 0
	c.window, c.windowOff = c.window[:0], 0
}

// next returns the next intact record, in memory from room, and moves behind it: the record's
// number is seq-1. It skips records with damaged content. end is the end of the readable part of
// the segment, and limit is greater than all numbers in it.
//
// The error is io.EOF if no intact record follows. Then the cursor is at the end, or before it if
// the rest of the segment is unreadable. All other errors are ErrNoRoom or of the file, and the
// cursor stays at the record.
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

// content reads from an offset into dst.
func (c *cursor) content(f io.ReaderAt, off, end int64, dst []byte) error {
	if len(dst) <= windowSize {
		b, err := c.view(f, off, len(dst), end)
		copy(dst, b)
		return err
	}
	return readFull(f, dst, off)
}

// view returns n bytes of the file, at most windowSize and all before end. They are valid until the
// next call.
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

// readFull reads bytes that the file is known to have. The end of the file is an error like others.
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
