package forwarder

import (
	"math"
	"time"
)

const (
	// queuePatience is how long publishers may wait for each full queue of messages that a
	// subscriber takes. A faster subscriber does not lag: it sets the pace of publishers that send
	// as fast as they can, and loses nothing. Its CPU or link, or ours, is the limit.
	queuePatience = 20 * time.Millisecond
	// paceMemory is the time constant with which pace forgets.
	paceMemory = time.Second
	// minTrial is for how long a slow subscriber has to keep up until it has caught up. It doubles,
	// up to maxTrial, with each relapse within the time forgiven.
	minTrial = time.Second
	maxTrial = 32 * time.Second
	forgiven = time.Minute
	// fullInterval is how often the queue of a slow subscriber is checked.
	fullInterval = 100 * time.Millisecond
)

// pace compares what a subscriber takes with the time for which publishers wait for it.
type pace struct {
	at      time.Time // until when waited is complete
	waiters int       // publishers that wait since then
	waited  float64   // seconds in which at least one waited, fading

	looked  time.Time // time of the last look
	written uint64    // bytes that the connection had taken then
	queues  float64   // full queues taken until then, fading
}

// wait accounts for the time until now. From then on, publishers more wait, or fewer if that is
// negative.
//
// A publisher that waits calls it at each waitTick at least. If nobody did for longer, the machine
// is too busy to run this process, and perhaps the subscriber, so that one tick counts.
func (p *pace) wait(now time.Time, publishers int) {
	if since := now.Sub(p.at); since > 0 {
		p.waited *= fade(since)
		if p.waiters > 0 {
			p.waited += min(since, waitTick).Seconds()
		}
		p.at = now
	}
	p.waiters += publishers
}

// look accounts for what the connection has taken so far, in bytes, while queued bytes wait: a full
// queue, or one that was full a moment ago. It reports whether the subscriber lags.
func (p *pace) look(now time.Time, queued int64, written uint64) (lags bool) {
	p.wait(now, 0)
	since := max(now.Sub(p.looked), 0)
	taken := float64(written-p.written) / float64(max(queued, 1))
	p.queues = p.queues*fade(since) +
		taken*min(1, paceMemory.Seconds()/max(since.Seconds(), 1e-9))
	p.looked, p.written = now, written
	return p.waited > queuePatience.Seconds()*(1+p.queues)
}

// fade returns the part of what pace remembers that is left after a time.
func fade(since time.Duration) float64 { return math.Exp(-since.Seconds() / paceMemory.Seconds()) }

// look reports whether s lags. A publisher has found its queue full.
func (s *subscriber) look(now time.Time) (lags bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookLocked(now)
}

// lookLocked is look for a caller that holds mu, so that what was written never goes back.
func (s *subscriber) lookLocked(now time.Time) (lags bool) {
	_, queued, written := s.peer.Queue()
	return s.pace.look(now, queued, written)
}

// beginWait notes that a publisher waits for s, whose queue is full.
func (s *subscriber) beginWait(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookLocked(now)
	s.pace.wait(now, 1)
}

// endWait notes that a publisher does not wait for s any longer.
func (s *subscriber) endWait(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace.wait(now, -1)
}

// charge accounts for the time until now for which s held a publisher up, and returns for how long
// it did so over the last holdWindow. Time for which several publishers waited counts once.
func (s *subscriber) charge(now time.Time, held time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held = min(held, now.Sub(s.charged)); held > 0 {
		s.held.add(now, held)
		s.charged = now
	}
	return s.held.sum(now)
}

// effect is the text with which the log tells what it means for a subscriber that it is slow.
type effect string

const (
	losesMessages effect = "slow subscriber: it loses messages"
	losesCopies   effect = "slow subscriber of the tap: it loses messages"
	isWaitedFor   effect = "slow subscriber: publishers wait for it"
)

// slows makes s slow, unless it already is. The log tells of it, and again when s has caught up or
// is gone.
func (s *subscriber) slows(e effect) {
	now := time.Now()
	if s.gone() || !s.slow.CompareAndSwap(0, now.UnixNano()) {
		return
	}
	trial := s.nextTrial(now)
	msgs, bytes, written := s.peer.Queue()
	dropped := s.peer.Stats().Dropped.Total()
	s.log.Warn(string(e), "node", s.nodeID(), "queued", msgs, "bytes", bytes, "dropped", dropped)
	s.f.watches.Go(func() {
		text := "subscriber has caught up"
		if !s.catchUp(trial) {
			text = "slow subscriber is gone"
		}
		s.slow.Store(0)
		_, _, after := s.peer.Queue()
		took := time.Since(now)
		s.log.Warn(text, "node", s.nodeID(), "after", took.Round(time.Millisecond),
			"dropped", s.peer.Stats().Dropped.Total()-dropped,
			"bytes_per_second", int64(float64(after-written)/took.Seconds()))
	})
}

// nextTrial returns for how long s, which becomes slow, has to keep up until it has caught up.
func (s *subscriber) nextTrial(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.slowUntil) > forgiven {
		s.trial = 0
	}
	s.trial = min(max(2*s.trial, minTrial), maxTrial)
	return s.trial
}

// relapses reports whether s, if it lags now, was slow not long ago.
func (s *subscriber) relapses(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.slowUntil) <= forgiven
}

// catchUp waits until s has caught up: until its queue was full, during a whole trial, for no
// longer than publishers may wait for what it took. So a subscriber that takes a little all the
// time does not return again and again, and one that takes every burst at once returns although
// there are bursts. One that took nothing of its queue has not caught up either: the queue may be
// short of memory instead of full, or nothing may have been published. It returns false when the
// connection ends first.
func (s *subscriber) catchUp(trial time.Duration) bool {
	ticker := time.NewTicker(fullInterval)
	defer ticker.Stop()
	for {
		_, most, before := s.peer.Queue()
		var full time.Duration
		for range trial / fullInterval {
			select {
			case <-ticker.C:
			case <-s.peer.Done():
				return false
			}
			if !s.peer.HasRoom(1) {
				full += fullInterval
			}
			_, queued, _ := s.peer.Queue()
			most = max(most, queued)
		}
		_, left, after := s.peer.Queue()
		if left > 0 && after == before {
			continue
		}
		queues := float64(after-before) / float64(max(most, 1))
		if full.Seconds() <= queuePatience.Seconds()*(1+queues) {
			s.mu.Lock()
			s.slowUntil = time.Now()
			s.mu.Unlock()
			return true
		}
	}
}

// loses reports whether s loses at once what does not fit its queue.
func (s *subscriber) loses() bool { return s.slow.Load() != 0 && s.f.policy() == Adaptive }

// slowSince returns since when s is slow, the zero time if it is not.
func (s *subscriber) slowSince() time.Time {
	if ns := s.slow.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}
