package spool

import (
	"fmt"
	"os"
)

// scratchSize is the largest size in bytes of parts that are written in one call with the header.
const scratchSize = 64 << 10

// Append adds a record at the end and returns its number. The content of the record is the
// concatenation of the parts. Append does not keep the parts, and does not copy large ones.
//
// When it returns without an error, the operating system has the record. The record survives kill
// -9, and from the next sync on a power failure; with Config.SyncEach it is synced already.
//
// The error is ErrFull if the record would exceed Config.MaxBytes, ErrTooLarge if it would do so
// even in an empty spool, ErrClosed, or an error of the file system. After an error the spool is
// unchanged. Append waits for other calls of Append, and until the system has taken the record.
// Only with Config.SyncEach it waits for a sync.
func (s *Spool) Append(parts ...[]byte) (Seq, error) {
	size := recordSize(parts...)
	if size > recordHeader+MaxRecord || segmentHeader+size > s.cfg.MaxBytes {
		return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, size-recordHeader)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	g, err := s.room(size)
	if err != nil {
		return 0, err
	}
	end := g.end
	n, err := s.write(g, end, parts)
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

// syncNew syncs the segment, and the folder if the segment is new.
func (s *Spool) syncNew(g *segment) error {
	if err := g.w.Sync(); err != nil {
		return err
	}
	if g.end == 0 {
		s.syncFolder(".")
	}
	return nil
}

// recordSize returns the size of a record in a segment, in bytes.
func recordSize(parts ...[]byte) int64 {
	size := int64(recordHeader)
	for _, part := range parts {
		size += int64(len(part))
	}
	return size
}

// room returns the segment for a record of the given size.
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

// write writes a record at an offset, with the segment's header in front of the first record. It
// returns the size of what it wrote or tried to write. It writes small parts in one call.
func (s *Spool) write(g *segment, off int64, parts [][]byte) (n int64, err error) {
	n = recordSize(parts...)
	b := s.scratch
	if off == 0 {
		b = appendSegmentHeader(b, g.first)
		n += segmentHeader
	}
	b = s.sum.appendHeader(b, s.next, parts...)
	for _, part := range parts {
		if len(part) > cap(b)-len(b) {
			if _, err := g.w.WriteAt(b, off); err != nil {
				return n, err
			}
			off += int64(len(b))
			b = b[:0]
		}
		if len(part) > cap(b) {
			if _, err := g.w.WriteAt(part, off); err != nil {
				return n, err
			}
			off += int64(len(part))
			continue
		}
		b = append(b, part...)
	}
	if len(b) > 0 {
		_, err = g.w.WriteAt(b, off)
	}
	return n, err
}

// takeBack cuts off the remains of a failed write of n bytes at the end of a segment. Its content
// comes from the sender of the record: behind a shorter next record, a reader would take a part of
// it for records.
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
