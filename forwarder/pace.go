package forwarder

import (
	"time"

	"zmtpd/zmtp"
)

const (
	// frameOverhead is about what a subscription takes on the wire beside its topic, in bytes.
	frameOverhead = 16
	// paceShare is which part of the backlog that a publisher may have makes subscribers wait.
	paceShare = 8
	// paceStep is which part of it one subscriber may cause before it looks whether it has to wait.
	paceStep = 1024
	// paceInterval is how often a subscriber that waits looks again.
	paceInterval = 10 * time.Millisecond
)

// pace says that n bytes of topic were told to the publishers on behalf of s. It is the back-pressure on subscribers: subscriptions must not be
// dropped, so a publisher that leaves too many of them unread is closed, and one subscriber that changes its mind without end
// could bring that about for all of them. So once in a while s waits as long as a publisher is behind and makes progress.
// For one that makes none it waits Config.StallTimeout each time, which slows it down and does not stop it: neither may a
// publisher stop the subscribers. Only the read goroutine of s calls it, without a lock.
func (f *Forwarder) pace(s *subscriber, n int) {
	s.told += n + frameOverhead
	if int64(s.told) < f.backlogLimit()/paceStep {
		return
	}
	s.told = 0
	behind := f.behind(nil)
	if len(behind) == 0 {
		return
	}
	moved := time.Now()
	tick := time.NewTicker(paceInterval)
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
		if time.Since(moved) >= f.patience() {
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

// backlogLimit is how many bytes of subscriptions a publisher may leave unread.
func (f *Forwarder) backlogLimit() int64 {
	if limit := f.cfg.Load().XSub.SendBytes; limit > 0 {
		return limit
	}
	return zmtp.DefaultQueueBytes
}
