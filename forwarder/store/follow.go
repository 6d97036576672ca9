package store

import "zmtpd/forwarder/event"

// Reset makes a store with Config.Follower have these entries, as of a change of another store.
// Those who follow the store miss changes, and are told.
func (s *Store) Reset(entries []*Entry, seq uint64) error {
	t := newEntries()
	for _, e := range entries {
		t.set(e.Key, e)
		if t.bytes > s.cfg.MaxBytes {
			return Errorf(BackendFailure, "the clone of %s is full: it may have %d bytes", s.cfg.Name,
				s.cfg.MaxBytes)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.history.news
	s.entries, s.seq, s.epoch = t, seq, newEpoch() // numbers may mean other changes now
	s.history = history{limit: s.cfg.History, last: seq}
	s.account.settle(s.memory())
	if news != nil {
		close(news)
	}
	return nil
}

// Replay makes changes of another store in one with Config.Follower. Changes that it has are left
// out. Those with edits, by number, have no value: it is that of the entry before after the edits.
// The error is [StaleData] if there is a gap before the changes, and [InvalidData] if edits do not
// fit the entry; the changes before these are made.
func (s *Store) Replay(changes []Change, edits map[uint64][]Edit) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(changes) > 0 && changes[0].Seq <= s.seq {
		changes = changes[1:]
	}
	for i := range changes {
		if changes[i].Seq != s.seq+1+uint64(i) {
			return Errorf(StaleData, "change %d came behind %d", changes[i].Seq, s.seq)
		}
	}
replay:
	for i := range changes {
		c := &changes[i]
		switch c.Kind {
		case Put:
			if some, ok := edits[c.Seq]; ok {
				if err = s.edit(c.Entry, some); err != nil {
					changes = changes[:i]
					break replay
				}
			}
			c.Old = s.entries.set(c.Key, c.Entry)
		case Clear:
			s.entries = newEntries()
		default:
			c.Old = s.entries.set(c.Key, nil)
		}
		s.seq = c.Seq
	}
	s.history.append(changes)
	s.account.settle(s.memory())
	return err
}

// edit gives an entry the value of the entry of its key after edits. The caller holds mu.
func (s *Store) edit(e *Entry, edits []Edit) (err error) {
	old := s.entries.get(e.Key)
	if old == nil {
		return Errorf(InvalidData, "there is no entry %s to edit", event.AppendText(nil, e.Key))
	}
	e.Value, err = old.Value.Edited(edits)
	return err
}
