package forwarder

import "time"

// A subscriber that makes progress is never stalled. Yet with the policies Adaptive and Block it may set the pace of all, and
// with Drop it may lose messages, so the log tells of it: once when that begins, and once when it has ended for a while.

const (
	// slowWindow is over how many times Config.StallTimeout it is looked how a subscriber keeps up.
	slowWindow = 10
	// slowShare is for which part of that time publishers have to wait for a slow one.
	slowShare = 2
	// keepsUpShare is for which part of it they may wait for one that keeps up again.
	keepsUpShare = 20
)

// window is the time over which it is looked how subscribers keep up.
func (f *Forwarder) window() time.Duration { return slowWindow * f.patience() }

// waitedFor says that a publisher has waited for s for that long.
func (s *subscriber) waitedFor(d time.Duration) {
	s.blocked.Add(int64(d))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow || s.stalled.Load() != 0 {
		return // is in the log
	}
	now, window := time.Now(), s.f.window()
	if now.Sub(s.windowBegin) > window {
		s.windowBegin, s.windowBlocked = now.Add(-d), 0
	}
	if s.windowBlocked += d; s.windowBlocked < window/slowShare {
		return
	}
	s.slow = true
	msgs, bytes, written := s.peer.Queue()
	s.log.Warn("publishers wait for a slow subscriber", "node", s.nodeID(), "queued", msgs, "bytes", bytes,
		"blocked", s.windowBlocked.Round(time.Millisecond), "within", now.Sub(s.windowBegin).Round(time.Millisecond))
	s.f.watches.Go(func() { s.watchSlow(now, written) })
}

// watchSlow waits until publishers hardly wait for s any more, which has been slow since then when written bytes had gone out.
func (s *subscriber) watchSlow(since time.Time, written uint64) {
	text := "publishers do not wait for the subscriber any more"
	if !s.calm(s.blocked.Load, func() int64 { return int64(s.f.window()) / keepsUpShare }) {
		text = "slow subscriber is gone"
	}
	s.mu.Lock()
	s.slow, s.windowBegin = false, time.Time{}
	s.mu.Unlock()
	_, _, now := s.peer.Queue()
	after := time.Since(since)
	s.log.Warn(text, "node", s.nodeID(), "after", after.Round(time.Millisecond),
		"bytes_per_second", int64(float64(now-written)/after.Seconds()))
}

// loses says that s has just lost messages with the policy Drop.
func (s *subscriber) loses() {
	if s.gone() || s.losing.Swap(true) {
		return
	}
	now := time.Now()
	msgs, bytes, _ := s.peer.Queue()
	dropped := s.peer.Stats().Dropped
	s.log.Warn("subscriber does not keep up and loses messages", "node", s.nodeID(), "queued", msgs, "bytes", bytes, "dropped", dropped)
	s.f.watches.Go(func() {
		text := "subscriber loses no messages any more"
		if !s.calm(func() int64 { return int64(s.peer.Stats().Dropped) }, func() int64 { return 0 }) {
			text = "subscriber that lost messages is gone"
		}
		s.losing.Store(false)
		s.log.Warn(text, "node", s.nodeID(), "dropped", s.peer.Stats().Dropped, "after", time.Since(now).Round(time.Millisecond))
	})
}

// calm waits until a count grows by no more than limit within a window. It reports false when the connection ends first.
func (s *subscriber) calm(count, limit func() int64) bool {
	for {
		before := count()
		timer := time.NewTimer(s.f.window())
		select {
		case <-timer.C:
			if count()-before <= limit() {
				return true
			}
		case <-s.peer.Done():
			timer.Stop()
			return false
		}
	}
}
