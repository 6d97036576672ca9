package zmtp

import (
	"fmt"
	"slices"
)

// pushLane is the way to one peer of a Push, or to an endpoint.
type pushLane struct {
	*outbox
	seed   uint64 // from its name, for rendezvous hashing
	parked bool   // it belongs to an endpoint and outlives its peers
}

func newPushLane(ob *outbox, name string, parked bool) *pushLane {
	return &pushLane{ob, hash(name), parked}
}

// name is what a peer is called for rendezvous hashing: the endpoint to which it was connected,
// which is the same when it comes back. One that was accepted is a stranger each time.
func (p *Peer) name() string {
	if p.owner.listener == nil {
		return p.owner.endpoint
	}
	return fmt.Sprint("peer ", p.id)
}

// hash is FNV-1a. It must not change: who chooses among the same peers elsewhere, or after a
// restart, should choose alike.
func hash[T string | []byte](s T) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

// score is how much a lane wants a key: a bijection that mixes all bits (the finalizer of
// SplitMix64).
func score(key, seed uint64) uint64 {
	x := key ^ seed
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// choice is where a message may go.
type choice struct {
	sticky bool      // to lane alone, otherwise to any
	lane   *pushLane // nil if there is none
}

// choose returns where m may go. Caller holds the lock.
func (s *Push) choose(m Message) choice {
	if s.cfg.Key == nil {
		return choice{}
	}
	key := s.cfg.Key(m)
	if key == nil {
		return choice{}
	}
	c := choice{sticky: true}
	h, best := hash(key), uint64(0)
	for _, l := range s.lanes {
		if sc := score(h, l.seed); c.lane == nil || sc > best {
			c.lane, best = l, sc
		}
	}
	return c
}

// put queues m and reports whether it could. Caller holds the lock.
func (s *Push) put(m Message) bool {
	for {
		c := s.choose(m)
		if !c.sticky {
			return s.robin(func(l *pushLane) bool { return l.offerMessage(m) })
		}
		if c.lane == nil {
			return false
		}
		if c.lane.offerMessage(m) {
			return true
		}
		if !s.removeClosed(c.lane) {
			return false
		}
	}
}

// putBatch queues the messages of b from first on, until one has nowhere to go, and returns how
// many it has queued. Caller holds the lock.
func (s *Push) putBatch(b *Batch, first int) (n int) {
	for c := s.choose(b.Message(first)); first < b.Len(); {
		r := Run{first, first + 1}
		var next choice
		for ; r.To < b.Len(); r.To++ {
			if next = s.choose(b.Message(r.To)); next != c {
				break
			}
		}
		took := s.putRun(b, r, c)
		n += took
		first += took
		switch {
		case first == r.To:
			c = next
		case took > 0: // elsewhere there may be room for the next one
		case c.lane != nil && s.removeClosed(c.lane):
			c = s.choose(b.Message(first))
		default:
			return n
		}
	}
	return n
}

// putRun queues messages of b that may go to the same places. Caller holds the lock.
func (s *Push) putRun(b *Batch, r Run, c choice) (n int) {
	offer := func(l *pushLane) bool {
		took := l.offer(b, []Run{r})
		n += took
		r.From += took
		return r.From == r.To
	}
	switch {
	case !c.sticky:
		s.robin(offer)
	case c.lane != nil:
		offer(c.lane)
	}
	return n
}

// robin calls f for the lanes, beginning with the one whose turn it is, until it returns true.
// Those that are closed have left. Caller holds the lock.
func (s *Push) robin(f func(*pushLane) bool) bool {
	for range len(s.lanes) {
		if s.next >= len(s.lanes) {
			s.next = 0
		}
		l := s.lanes[s.next]
		ok := f(l)
		if !ok && s.removeClosed(l) { // its endpoint was given up
			continue
		}
		s.next++
		if ok {
			return true
		}
	}
	return false
}

// removeClosed removes l and reports true if it takes nothing more. Caller holds the lock.
func (s *Push) removeClosed(l *pushLane) bool {
	if !l.isClosed() {
		return false
	}
	s.removeLane(l.outbox)
	return true
}

// removeLane removes the lane of an outbox, if it is there. Caller holds the lock.
func (s *Push) removeLane(ob *outbox) {
	i := slices.IndexFunc(s.lanes, func(l *pushLane) bool { return l.outbox == ob })
	if i < 0 {
		return
	}
	s.lanes = slices.Delete(s.lanes, i, i+1)
	if s.next > i {
		s.next--
	}
}

// add lets a lane take part.
func (s *Push) add(l *pushLane) {
	s.mu.Lock()
	s.lanes = append(s.lanes, l)
	s.putReturned()
	s.mu.Unlock()
	s.room.open()
}

// hasRoom is called when a lane that was full has room, or takes nothing more.
func (s *Push) hasRoom() {
	s.mu.Lock()
	s.putReturned()
	s.mu.Unlock()
	s.room.open()
}

// takeBack removes the lane of a peer that is lost and gives to others what waited for it. All at
// once: the next home of a key gets nothing new before what was there.
func (s *Push) takeBack(ob *outbox) {
	s.mu.Lock()
	s.removeLane(ob)
	unsent := ob.reclaim()
	for _, m := range unsent {
		s.memory.Add(int64(len(m.wire)))
	}
	// In front: nothing is sent while anything is returned, so what waits there was sent later, or
	// was further behind.
	s.returned = append(unsent, s.returned...)
	s.putReturned()
	s.mu.Unlock()
	s.room.open()
}

// putReturned queues what was taken back, as far as there is room, in order for each choice. Caller
// holds the lock.
func (s *Push) putReturned() {
	kept := s.returned[:0]
	var full []choice // where one had no room, so that none overtakes it
	for _, m := range s.returned {
		c := s.choose(m)
		blocked := slices.Contains(full, c)
		if !blocked && s.put(m) {
			s.memory.Release(int64(len(m.wire)))
			continue
		}
		if !blocked {
			full = append(full, c)
		}
		kept = append(kept, m)
	}
	clear(s.returned[len(kept):])
	if len(kept) == 0 {
		kept = nil
	}
	s.returned = kept
}
