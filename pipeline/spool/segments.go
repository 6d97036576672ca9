package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// find returns the segment with the record seq or, if there is none, the next segment, or nil. The
// caller holds mu.
func (s *Spool) find(seq Seq) *segment {
	i, _ := slices.BinarySearchFunc(s.segments, seq, func(g *segment, seq Seq) int {
		if g.after() <= seq {
			return -1
		}
		return 1
	})
	if i == len(s.segments) || s.segments[i].n == 0 { // the last one may be empty
		return nil
	}
	return s.segments[i]
}

// settle records that a record is acknowledged or lost, which it was not before. The caller holds
// mu.
func (s *Spool) settle(g *segment, seq Seq) {
	g.done.add(uint64(seq - g.first))
	g.live--
	s.stats.Records--
	if seq >= s.read {
		s.stats.Unread--
	}
	s.acksDirty = true
}

// seal ends the segment that is being written, and takes it out of the spool if no record in it
// waits. Then it returns true, and the caller must remove its file, without mu. The caller holds
// writing and mu.
func (s *Spool) seal() (gone bool) {
	g := s.active
	s.active = nil
	return g.live == 0 && s.kill(g)
}

// kill takes a segment out of the spool. If it returns true, the caller must remove the file,
// without mu; otherwise unuse does. The file no longer counts, although it may exist for a moment
// longer: its room must be usable even while the flusher syncs the segment, or more records than
// necessary would be dropped. The caller holds mu.
func (s *Spool) kill(g *segment) (gone bool) {
	i := slices.Index(s.segments, g)
	s.segments = slices.Delete(s.segments, i, i+1)
	g.dead = true
	s.bytes -= g.size
	s.acksDirty = true
	return g.users == 0
}

// unuse ends a use of a segment's files. A use begins with users++ under mu.
func (s *Spool) unuse(g *segment) error {
	s.mu.Lock()
	g.users--
	gone := g.dead && g.users == 0
	s.mu.Unlock()
	if gone {
		return s.remove(g)
	}
	return nil
}

// remove deletes the file of a dead segment that is not in use. If that fails, the flusher tries
// again, the file counts as on disk, and the acknowledgements tell a later process that its records
// are done.
func (s *Spool) remove(g *segment) error {
	g.closeFiles()
	err := s.root.Remove(g.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.undeleted = append(s.undeleted, g)
		s.bytes += g.size
		return fmt.Errorf("spool: cannot delete a segment: %w", err)
	}
	s.dirDirty = true
	return nil
}
