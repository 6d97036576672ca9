package spool

import (
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
	sum       recordSum
}

// place puts the cursor before the first record of a segment.
func (c *cursor) place(first Seq) {
	c.off, c.seq, c.damaged = segmentHeader, first, 0
	c.window, c.windowOff = c.window[:0], 0
}

// next returns the next good record in buf, which may be a larger one then, and steps over it and over damaged records before
// it, so that seq-1 is its number. The segment has a readable part that ends at end, and all numbers are below limit.
//
// The error is io.EOF if there is no further good record. Then the cursor is where no next record can be found: at the end, or
// before it if the rest of the segment is unreadable. All other errors are of the file, and leave the cursor as it was.
func (c *cursor) next(f io.ReaderAt, end int64, limit Seq, buf []byte) ([]byte, error) {
	off, seq := c.off, c.seq
	for ; seq < limit && off < end; seq++ {
		size, record, good, err := c.read(f, off, end, seq, buf)
		if err != nil {
			return buf, err
		}
		if size == 0 {
			return buf, io.EOF
		}
		if good {
			c.damaged += off - c.off
			c.off, c.seq = off+size, seq+1
			return record, nil
		}
		off += size
	}
	if off == end {
		c.damaged += off - c.off
		c.off, c.seq = off, seq
	}
	return buf, io.EOF
}

// read returns the record at an offset, with its size in the file, which is 0 if it has none that is possible.
func (c *cursor) read(f io.ReaderAt, off, end int64, seq Seq, buf []byte) (size int64, record []byte, good bool, err error) {
	if end-off < recordHeader {
		return 0, nil, false, nil
	}
	head, err := c.view(f, off, recordHeader, end)
	if err != nil {
		return 0, nil, false, err
	}
	size, want, ok := parseRecordHeader(head, end-off)
	if !ok {
		return 0, nil, false, nil
	}
	if size <= windowSize {
		b, err := c.view(f, off, int(size), end)
		if err != nil {
			return 0, nil, false, err
		}
		record = append(buf[:0], b[recordHeader:]...)
	} else {
		record = slices.Grow(buf[:0], int(size)-recordHeader)[:size-recordHeader]
		if err := readFull(f, record, off+recordHeader); err != nil {
			return 0, nil, false, err
		}
	}
	return size, record, c.sum.of(seq, record) == want, nil
}

// view returns n bytes of the file, at most windowSize, of which all are before end. They are valid until the next call.
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
