package forwarder

import (
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const (
	// frameOverhead is about what a subscription takes on the wire beside its topic, in bytes.
	frameOverhead = 16

	// A publisher that leaves more than a limit of subscriptions unread is closed (see
	// backlogLimit). These are the fractions 1/n of that limit:

	// paceShare is the backlog of a publisher from which on subscribers wait for it.
	paceShare = 8
	// paceStep is what one subscriber, and stepShare what all together, may send between two checks
	// whether they have to wait.
	paceStep, stepShare = 1024, 8
	// topicShare is what all topics together may take. A publisher gets all of them when it
	// connects, and their cancellations when all their subscribers go.
	topicShare = 2

	// paceInterval is how often a waiting subscriber checks the publishers, if up to paceCrowd
	// wait.
	paceInterval = 10 * time.Millisecond
	paceCrowd    = 16
	// pacePatience is how long a subscriber waits for publishers that read nothing.
	pacePatience = 500 * time.Millisecond
)

// These shares keep a publisher that makes progress from being closed. Its backlog never exceeds
// limit/paceShare + limit/stepShare + limit/topicShare, and one topic of each subscriber.

// pace is the back-pressure on subscribers. It is called after the publishers were told a topic of
// n bytes on behalf of s. Subscriptions must not be dropped, so a publisher that leaves too many of
// them unread is closed, and a subscriber that changes its subscriptions without end could cause
// that for all publishers. So s waits, once in a while, as long as a publisher is behind and makes
// progress. If none makes progress, s waits for pacePatience only: a publisher must not stop the
// subscribers. Only the read goroutine of s calls it, without a lock.
func (f *Forwarder) pace(s *subscriber, n int) {
	s.told += n + frameOverhead
	if int64(s.told) < f.backlogLimit()/max(paceStep, stepShare*int64(s.crowd)) {
		return
	}
	s.told = 0
	behind := f.behind(nil)
	if len(behind) == 0 {
		return
	}
	moved := time.Now()
	defer f.pacing.Add(-1)
	tick := time.NewTicker(paceInterval * time.Duration(1+f.pacing.Add(1)/paceCrowd))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ended():
			return
		case <-f.stop:
			return
		}
		now := f.behind(behind)
		if len(now) == 0 {
			return
		}
		for p, written := range now {
			if written != behind[p] {
				moved = time.Now()
			}
		}
		if time.Since(moved) >= pacePatience {
			return
		}
		behind = now
	}
}

// behind returns the publishers whose backlog is too large, and how many bytes each has taken so
// far. If among is not nil, it considers only the publishers in it: a wait does not extend to
// others.
func (f *Forwarder) behind(among map[*zmtp.Peer]uint64) map[*zmtp.Peer]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found map[*zmtp.Peer]uint64
	for p := range f.publishers {
		if _, ok := among[p]; among != nil && !ok {
			continue
		}
		backlog, limit := p.SubscriptionBacklog()
		if backlog <= limit/paceShare {
			continue
		}
		if found == nil {
			found = make(map[*zmtp.Peer]uint64)
		}
		_, _, found[p] = p.Queue()
	}
	return found
}

// bound closes the subscriber with the largest topics if all topics together are too large. The
// caller holds mu.
func (f *Forwarder) bound() {
	limit := f.backlogLimit() / topicShare
	if f.topicBytes <= limit {
		return
	}
	var most *subscriber
	left := f.topicBytes
	for s := range f.subscribers {
		switch {
		case s.gone(): // its topics go with it
			left -= s.bytes.Load()
		case most == nil || s.bytes.Load() > most.bytes.Load():
			most = s
		}
	}
	if most == nil || left <= limit {
		return
	}
	size := most.bytes.Load()
	most.log.Warn("topics are too large together: the subscriber with the most is disconnected",
		"node", most.nodeID(), "bytes", size, "of", f.topicBytes, "limit", limit)
	most.peer.Close(wire.Errorf(wire.TooManySubscriptions,
		"its topics take %d bytes, and those of all subscribers may take %d", size, limit))
}

// backlogLimit returns how many bytes of subscriptions a publisher may leave unread.
func (f *Forwarder) backlogLimit() int64 {
	if limit := f.cfg.Load().XSub.SendBytes; limit > 0 {
		return limit
	}
	return zmtp.DefaultQueueBytes
}
