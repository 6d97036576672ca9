package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// find returns the first segment that has a record from seq on, or nil. It is called with mu held.
func (s *Spool) find(seq Seq) *segment {
	i, _ := slices.BinarySearchFunc(s.segments, seq, func(g *segment, seq Seq) int {
		if g.after() <= seq {
			return -1
		}
		return 1
	})
	if i == len(s.segments) || s.segments[i].n == 0 { // the last one may have none yet
		return nil
	}
	return s.segments[i]
}

// settle notes that a record is acknowledged or lost, which it was not before. It is called with mu
// held.
func (s *Spool) settle(g *segment, seq Seq) {
	g.done.add(uint64(seq - g.first))
	g.live--
	s.stats.Records--
	if seq >= s.read {
		s.stats.Unread--
	}
	s.acksDirty = true
}

// seal ends the segment that is written, and deletes it if it holds nothing. It is called with
// writing and mu held. If it returns true the caller removes that segment's file, without mu.
func (s *Spool) seal() (gone bool) {
	g := s.active
	s.active = nil
	return g.live == 0 && s.kill(g)
}

// kill takes a segment out of the spool. The caller holds mu. If it returns true the caller removes
// the file, without mu; otherwise unuse does. The file no longer counts, although it may exist for
// a moment longer: the room must be usable even while the flusher syncs that segment, or more
// records than necessary would be dropped.
func (s *Spool) kill(g *segment) (gone bool) {
	i := slices.Index(s.segments, g)
	s.segments = slices.Delete(s.segments, i, i+1)
	g.dead = true
	s.bytes -= g.size
	s.acksDirty = true
	return g.users == 0
}

// unuse ends a use of a segment's files, which began with users++ under mu.
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

// remove deletes the file of a dead segment that nobody uses. If it fails the flusher tries again;
// the file counts as on disk then, and the acknowledgements tell a later process that nothing in it
// is wanted.
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
