package spool

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Next returns the oldest record that was neither acknowledged nor returned since Open, and its
// number. The record is in buf, or in a larger buffer if buf is too small. It belongs to the
// caller.
//
// The error is ErrEmpty until more records are appended, ErrClosed, or an error of the file system.
// After an error of the file system the next call reads the same record.
func (s *Spool) Next(buf []byte) (Seq, []byte, error) {
	seq, record, err := s.NextIn(reuse(buf))
	if err != nil {
		return 0, buf[:0], err
	}
	return seq, record, nil
}

// NextIn is Next with memory from room. It may call room several times, when records are damaged or
// acknowledged, and uses the memory of the last call only. The error is ErrNoRoom if room has no
// memory; then the next call reads the same record.
func (s *Spool) NextIn(room Room) (Seq, []byte, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		g, end, limit, err := s.enter()
		if err != nil {
			return 0, nil, err
		}
		record, fresh, err := s.step(g, end, limit, room)
		_ = s.unuse(g) // the flusher tries again
		switch {
		case err != nil && err != io.EOF:
			return 0, nil, err
		case fresh:
			return s.cur.seq - 1, record, nil
		}
	}
}

// enter returns the segment with the next record, the end of its readable part, and the number
// after its last record, and places the cursor. The segment is in use until unuse. The caller holds
// reading.
func (s *Spool) enter() (g *segment, end int64, limit Seq, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, 0, 0, ErrClosed
	}
	g = s.find(s.read)
	var left file // of the segment that the cursor has left
	if c := s.curSeg; c != nil && c != g && c != s.active {
		if !c.dead { // else its file is closed with it
			left, c.r = c.r, nil
		}
		s.curSeg = nil
	}
	if g != nil {
		g.users++
		end, limit = g.end, g.after()
	}
	s.mu.Unlock()
	if left != nil {
		left.Close()
	}
	if g == nil {
		return nil, 0, 0, ErrEmpty
	}
	if g != s.curSeg {
		r, err := s.open(g.name, os.O_RDONLY)
		if err != nil {
			_ = s.unuse(g) // the flusher tries again
			return nil, 0, 0, fmt.Errorf("spool: %w", err)
		}
		s.mu.Lock()
		g.r = r
		s.read = g.first // no record comes before it
		s.mu.Unlock()
		s.curSeg = g
		s.cur.place(g.first)
	}
	return g, end, limit, nil
}

// step reads the next record of the segment from enter. fresh is false for an acknowledged one. The
// error is io.EOF if there is no further record up to limit; then the cursor is at the end.
func (s *Spool) step(g *segment, end int64, limit Seq, room Room) (record []byte, fresh bool,
	err error) {
	from, damaged := s.cur.seq, s.cur.damaged
	record, err = s.cur.next(g.r, end, limit, room)
	broken := err == io.EOF && (s.cur.off < end || s.cur.seq < limit) // the rest is unreadable
	if broken {
		s.cur.damaged += end - s.cur.off
		s.cur.off, s.cur.seq = end, limit
	}
	good := s.cur.seq // damaged records are below it
	if err == nil {
		good--
	} else if err != io.EOF && err != ErrNoRoom {
		err = fmt.Errorf("spool: cannot read %s: %w", g.name, err)
	}

	s.mu.Lock()
	for seq := from; seq < good; seq++ {
		if !g.done.has(uint64(seq - g.first)) {
			s.settle(g, seq)
			s.stats.CorruptRecords++
		}
	}
	s.stats.CorruptBytes += s.cur.damaged - damaged
	if fresh = err == nil && !g.done.has(uint64(good-g.first)); fresh {
		s.stats.Unread--
	}
	s.read = s.cur.seq
	if g.live == 0 && g != s.active && !g.dead {
		s.kill(g)
	}
	s.mu.Unlock()

	if s.cur.damaged > damaged {
		s.warnDamaged(g, "number", from, "records", good-from, "bytes", s.cur.damaged-damaged)
	}
	if broken {
		// Later records must not follow what a later process cannot read either.
		s.writing.Lock()
		s.mu.Lock()
		if g == s.active {
			s.seal()
		}
		s.mu.Unlock()
		s.writing.Unlock()
	}
	return record, fresh, err
}

// warnDamaged logs the damage of a segment, once.
func (s *Spool) warnDamaged(g *segment, args ...any) {
	s.mu.Lock()
	warned := g.warned
	g.warned = true
	s.mu.Unlock()
	if !warned {
		s.log.Warn("a spool segment is damaged; records in it are lost",
			append([]any{slog.String("path", g.name)}, args...)...)
	}
}

// DropOldest deletes the oldest segment, even the one being written; then the next Append begins
// another one. It calls dropped, in order, for each record of the segment that was neither read by
// Next nor acknowledged. The record is valid during the call, which must not call Next, DropOldest
// or Close. Records of the segment that were read may still be acknowledged.
//
// The error is ErrEmpty if there is no segment, ErrClosed, or an error of deleting the file. In the
// last case the segment is out of the spool, but counts as bytes on disk until it is deleted.
// Unreadable records count as corrupt, and dropped is not called for them.
func (s *Spool) DropOldest(dropped func(record []byte)) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	g, err := s.oldest()
	if g == nil {
		return err
	}

	room := reuse(nil)
	for s.unreadIn(g) {
		e, end, limit, err := s.enter()
		if err != nil && err != ErrEmpty {
			s.warnDamaged(g, "err", err)
		}
		if err != nil {
			break
		}
		if e != g { // all its records have been acknowledged meanwhile
			_ = s.unuse(e) // the flusher tries again
			break
		}
		record, fresh, err := s.step(g, end, limit, room)
		_ = s.unuse(g) // oldest has put it to use
		if err != nil && err != io.EOF {
			s.warnDamaged(g, "err", err)
			break
		}
		if fresh {
			dropped(record)
		}
	}

	s.mu.Lock()
	for seq := max(s.read, g.first); !g.dead && seq < g.after(); seq++ {
		if !g.done.has(uint64(seq - g.first)) {
			s.settle(g, seq)
			s.stats.CorruptRecords++
		}
	}
	if !g.dead {
		s.stats.Records -= g.live
		s.kill(g)
	}
	s.mu.Unlock()
	return s.unuse(g)
}

// oldest returns the oldest segment, in use and no longer written. It returns nil if there is none,
// or if it had no records that wait and is deleted.
func (s *Spool) oldest() (*segment, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.stats.Records == 0 && s.active == nil:
		return nil, ErrEmpty
	}
	g := s.segments[0]
	g.users++
	if g == s.active {
		s.seal()
	}
	return g, nil
}

// unreadIn reports whether Next has not reached the end of a segment in the spool.
func (s *Spool) unreadIn(g *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !g.dead && s.read < g.after()
}
