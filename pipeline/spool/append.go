package spool

import (
	"fmt"
	"os"
)

// scratchSize is up to which size a record is written with its header in one call.
const scratchSize = 64 << 10

// Append adds a record to the end, and returns its number. It does not keep the record. When it
// returns without an error the system has the record: it survives kill -9, and a power failure from
// the next sync on, which with Config.SyncEach has already happened.
//
// The error is ErrFull if Config.MaxBytes would be exceeded, ErrTooLarge if no room will ever do,
// ErrClosed, or one of the file system; then the spool is as before. It waits for other calls of
// Append and for the system to take the record, and for a sync with Config.SyncEach only.
func (s *Spool) Append(record []byte) (Seq, error) {
	if len(record) > MaxRecord || segmentHeader+recordSize(record) > s.cfg.MaxBytes {
		return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(record))
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	g, err := s.room(recordSize(record))
	if err != nil {
		return 0, err
	}
	end := g.end
	n, err := s.write(g, end, record)
	if err == nil && s.cfg.SyncEach {
		err = s.syncNew(g)
	}
	if err != nil {
		s.takeBack(g, end, n)
		return 0, fmt.Errorf("spool: cannot append to %s: %w", g.name, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	g.end += n
	g.size = g.end
	g.n++
	g.live++
	g.dirty = g.dirty || !s.cfg.SyncEach
	s.bytes += n
	s.stats.Records++
	s.stats.Unread++
	s.next++
	return s.next - 1, nil
}

// syncNew syncs what was written last, and that its file exists.
func (s *Spool) syncNew(g *segment) error {
	if err := g.w.Sync(); err != nil {
		return err
	}
	if g.end == 0 {
		s.syncFolder(".")
	}
	return nil
}

func recordSize(record []byte) int64 { return recordHeader + int64(len(record)) }

// room returns the segment that a record of a size goes to.
func (s *Spool) room(size int64) (*segment, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if g := s.active; g != nil && g.n > 0 &&
		(g.end+size > s.cfg.SegmentBytes || g.live == 0 && s.bytes+size > s.cfg.MaxBytes) {
		if s.seal() {
			s.mu.Unlock()
			_ = s.remove(g) // the flusher tries again
			s.mu.Lock()
		}
	}
	need := size
	if s.active == nil || s.active.end == 0 {
		need += segmentHeader
	}
	g, full := s.active, s.bytes+need > s.cfg.MaxBytes
	if full {
		s.stats.Full++
	}
	s.mu.Unlock()
	if full {
		return nil, ErrFull
	}
	if g != nil {
		return g, nil
	}

	g = &segment{first: s.next, name: segmentName(s.next)}
	w, err := s.open(g.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("spool: cannot begin a segment: %w", err)
	}
	g.w = w
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, g)
	s.active = g
	s.dirDirty = true
	return g, nil
}

// write writes a record at an offset, behind the segment's header if that is 0. It returns how many
// bytes that are, also if it fails.
func (s *Spool) write(g *segment, off int64, record []byte) (n int64, err error) {
	b := s.scratch
	if off == 0 {
		b = appendSegmentHeader(b, g.first)
	}
	b = s.sum.appendHeader(b, s.next, record)
	rest := record[min(len(record), cap(b)-len(b)):]
	b = append(b, record[:len(record)-len(rest)]...)
	n = int64(len(b) + len(rest))
	_, err = g.w.WriteAt(b, off)
	if err == nil && len(rest) > 0 {
		_, err = g.w.WriteAt(rest, off+int64(len(b)))
	}
	return n, err
}

// takeBack cuts off what a failed write of n bytes at the end of a segment has left. It must not
// stay there: the next record may be shorter, and what follows it would then be content of this
// one, where the sender of that could have put anything.
func (s *Spool) takeBack(g *segment, end, n int64) {
	if g.w.Truncate(end) == nil {
		return
	}
	s.mu.Lock()
	g.size += n // at most
	s.bytes += n
	gone := s.seal()
	s.mu.Unlock()
	if gone {
		_ = s.remove(g) // the flusher tries again
	}
}
