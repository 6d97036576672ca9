package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// runFlusher writes to disk at intervals what other calls leave for later, until the spool is
// closed.
func (s *Spool) runFlusher() {
	t := time.NewTicker(s.cfg.SyncInterval)
	defer t.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-t.C:
			s.report(s.flush())
		}
	}
}

// report logs that flush fails, or that it works again.
func (s *Spool) report(err error) {
	s.mu.Lock()
	before := s.stats.Err
	s.stats.Err = err
	s.mu.Unlock()
	if err != nil && before == nil {
		s.log.Error("the spool cannot be synced; trying again", "path", s.cfg.Dir, "err", err)
	} else if err == nil && before != nil {
		s.log.Info("the spool is synced again", "path", s.cfg.Dir)
	}
}

// flush syncs new records, writes the acknowledgements, and deletes segments without records that
// wait.
func (s *Spool) flush() error {
	err := errors.Join(s.deleteIdle(), s.syncSegments(), s.writeAcks(), s.deleteDead())
	s.mu.Lock()
	dirty := s.dirDirty
	s.dirDirty = false
	s.mu.Unlock()
	if dirty {
		s.syncFolder(".")
	}
	return err
}

// syncFolder makes the list of files in a folder survive a power failure. It returns no error: not
// every system can do it, and no caller could do anything else instead.
func (s *Spool) syncFolder(name string) {
	if f, err := s.open(name, os.O_RDONLY); err == nil {
		_ = f.Sync()
		f.Close()
	}
}

// deleteIdle deletes the segment that is being written if no record in it waits. Ack does not
// delete it: a spool that delivers as fast as it is appended to would create and delete a file for
// each record.
func (s *Spool) deleteIdle() error {
	s.writing.Lock()
	s.mu.Lock()
	g := s.active
	gone := g != nil && g.live == 0 && s.seal()
	s.mu.Unlock()
	s.writing.Unlock()
	if gone {
		return s.remove(g)
	}
	return nil
}

// deleteDead deletes segments whose deletion failed before.
func (s *Spool) deleteDead() (err error) {
	s.mu.Lock()
	dead := s.undeleted
	s.undeleted = nil
	for _, g := range dead {
		s.bytes -= g.size
	}
	s.mu.Unlock()
	for _, g := range dead {
		err = errors.Join(err, s.remove(g))
	}
	return err
}

// syncSegments syncs segments with new records, and closes those that will not be written any more.
// It uses one at a time, so that at most one outlives its deletion.
func (s *Spool) syncSegments() (err error) {
	for from := Seq(0); ; {
		s.mu.Lock()
		i := slices.IndexFunc(s.segments, func(g *segment) bool {
			return g.first >= from && g.w != nil && (g.dirty || g != s.active)
		})
		if i < 0 {
			s.mu.Unlock()
			return err
		}
		g := s.segments[i]
		from = g.first + 1
		g.users++
		dirty := g.dirty
		g.dirty = false
		s.mu.Unlock()

		var e error
		if dirty {
			e = g.w.Sync()
		}
		var w file
		s.mu.Lock()
		g.dirty = g.dirty || e != nil
		if !g.dirty && g != s.active && !g.dead {
			w, g.w = g.w, nil
		}
		s.mu.Unlock()
		if w != nil {
			e = errors.Join(e, w.Close())
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("spool: cannot sync %s: %w", g.name, e))
		}
		err = errors.Join(err, s.unuse(g))
	}
}
