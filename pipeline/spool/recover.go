package spool

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// recover reads the files of earlier processes and continues from them. The spool is not shared
// yet.
func (s *Spool) recover(recovered func(record []byte)) error {
	noted, err := s.readAcks()
	if err != nil {
		return err
	}
	_ = s.root.Remove(acksTemp) // writeAcks would overwrite it anyway
	firsts, err := s.list()
	if err != nil {
		return err
	}
	var c cursor
	for i, first := range firsts {
		limit := noSeq
		if i+1 < len(firsts) {
			limit = firsts[i+1]
		}
		g := &segment{first: first, name: segmentName(first)}
		if err := s.recoverSegment(g, &c, limit, &noted, recovered); err != nil {
			return err
		}
		s.next = g.after()
		s.stats.Records += g.live
		if g.live > 0 {
			s.bytes += g.size
			s.segments = append(s.segments, g)
			continue
		}
		g.dead = true
		_ = s.remove(g) // the flusher tries again
	}
	s.stats.Unread = s.stats.Records
	s.next = max(s.next, noted.next)
	return nil
}

// noSeq is greater than all numbers.
const noSeq = ^Seq(0)

// list returns the numbers of the first records of the segments in the folder, ascending.
func (s *Spool) list() ([]Seq, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var firsts []Seq
	for _, e := range entries {
		if first, ok := parseSegmentName(e.Name()); ok && e.Type().IsRegular() {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// recoverSegment reads a segment of an earlier process, whose numbers are below limit.
func (s *Spool) recoverSegment(g *segment, c *cursor, limit Seq, noted *acks,
	recovered func(record []byte)) (err error) {
	last := limit == noSeq
	flag := os.O_RDONLY
	if last {
		flag = os.O_RDWR // recoverEnd may cut it off
	}
	f, err := s.open(g.name, flag)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("spool: %w", e)
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	g.size = fi.Size()
	if err := s.recoverHeader(g, f); err != nil {
		return err
	}
	room := reuse(nil)
	c.place(g.first)
	for g.size > segmentHeader && err == nil {
		from := c.seq
		var record []byte
		record, err = c.next(f, g.size, limit, room)
		if err != nil && err != io.EOF {
			return fmt.Errorf("spool: cannot read %s: %w", g.name, err)
		}
		good := c.seq // damaged records are below it
		if err == nil {
			good--
		}
		for seq := from; seq < c.seq; seq++ {
			switch {
			case noted.contains(seq):
				g.done.add(uint64(seq - g.first))
			case seq < good:
				g.done.add(uint64(seq - g.first))
				s.stats.CorruptRecords++
			default:
				g.live++
				recovered(record)
			}
		}
	}
	g.n = uint64(c.seq - g.first)
	s.stats.CorruptBytes += c.damaged
	if c.damaged > 0 {
		s.warnDamaged(g, "bytes", c.damaged)
	}
	g.end = min(g.size, c.off)
	if g.size < segmentHeader {
		g.end = 0
	}
	return s.recoverEnd(g, f, last)
}

// recoverHeader checks the header of a segment. A damaged one does not affect the records.
func (s *Spool) recoverHeader(g *segment, f file) error {
	var b [segmentHeader]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("spool: cannot read %s: %w", g.name, err)
	}
	first, err := parseSegmentHeader(b[:n])
	if err == errVersion {
		return fmt.Errorf("%w: %s", err, g.name)
	}
	if n == segmentHeader && (err != nil || first != g.first) {
		s.stats.CorruptBytes += segmentHeader
		s.log.Warn("a spool segment has a damaged header; its records are used", "path", g.name)
	}
	return nil
}

// recoverEnd handles the bytes behind the last readable record of a segment.
func (s *Spool) recoverEnd(g *segment, f file, last bool) error {
	rest := g.size - g.end
	switch {
	case rest == 0:
	case last:
		s.log.Warn("half a record at the end of a spool segment is cut off", "path", g.name,
			"bytes", rest)
		if err := f.Truncate(g.end); err != nil {
			return fmt.Errorf("spool: cannot cut off the end of %s: %w", g.name, err)
		}
		g.size = g.end
		s.stats.TornBytes += rest
	default:
		s.log.Warn("the rest of a spool segment is unreadable; records in it are lost", "path",
			g.name, "bytes", rest)
		s.stats.CorruptBytes += rest
	}
	return nil
}
