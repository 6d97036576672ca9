package forwarder

import (
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const (
	// frameOverhead is about what a subscription takes on the wire beside its topic, in bytes.
	frameOverhead = 16
	// paceShare is which part of the backlog that a publisher may have makes subscribers wait.
	paceShare = 8
	// paceStep is which part of it one subscriber may cause before it looks whether it has to wait, and stepShare what all
	// together may.
	paceStep, stepShare = 1024, 8
	// topicShare is which part of it all topics together may take: a publisher that comes is told them at once, and one that is
	// there is told when all who held them go.
	topicShare = 2
	// paceInterval is how often a subscriber that waits looks again, if it is one of few.
	paceInterval = 10 * time.Millisecond
	// pacePatience is how long a subscriber waits for publishers that read nothing.
	pacePatience = 500 * time.Millisecond
	// paceCrowd is how many of those who wait look as often as one.
	paceCrowd = 16
)

// A publisher that makes progress is not closed, since the shares above leave room: it never has more to read than
// limit/paceShare + limit/stepShare + limit/topicShare, and one topic of each subscriber.

// pace says that n bytes of topic were told to the publishers on behalf of s. It is the back-pressure on subscribers: subscriptions must not be
// dropped, so a publisher that leaves too many of them unread is closed, and one subscriber that changes its mind without end
// could bring that about for all of them. So once in a while s waits as long as a publisher is behind and makes progress.
// For one that makes none it waits pacePatience each time, which slows it down and does not stop it: neither may a
// publisher stop the subscribers. Only the read goroutine of s calls it, without a lock.
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
		case <-s.peer.Done():
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

// behind returns the publishers that have too much to read, and how many bytes each has been sent so far. With among it
// looks at those only: who waits does not wait for others as well.
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

// bound closes the subscriber with the largest topics when all topics together are too large. Caller holds mu.
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
	most.log.Warn("all topics together are too large, the subscriber with the largest is disconnected",
		"node", most.nodeID(), "bytes", most.bytes.Load(), "of", f.topicBytes, "limit", limit)
	most.peer.Close(wire.Errorf(wire.TooManySubscriptions, "topics of %d bytes, all together may have %d", most.bytes.Load(), limit))
}

// backlogLimit is how many bytes of subscriptions a publisher may leave unread.
func (f *Forwarder) backlogLimit() int64 {
	if limit := f.cfg.Load().XSub.SendBytes; limit > 0 {
		return limit
	}
	return zmtp.DefaultQueueBytes
}
