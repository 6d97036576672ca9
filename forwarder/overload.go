package forwarder

import (
	"reflect"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const (
	// maxWatched bounds how many subscribers can wake a publisher that waits for them. It looks after
	// the others at each tick. reflect.Select takes at most 65536.
	maxWatched = 4096
	// waitTick is how often a publisher that waits looks at the progress of its subscribers.
	waitTick = 10 * time.Millisecond
)

// overload applies the policy to the subscribers that did not take everything of b.
func (p *publisher) overload(b *zmtp.Batch) {
	switch p.f.policy() {
	case Drop:
		for _, l := range p.blocked {
			l.sub.slows(losesMessages)
			p.router.drop(l, b, l.sub.lossReason())
		}
	case Disconnect:
		for _, l := range p.blocked {
			l.sub.disconnect()
			p.router.drop(l, b, l.sub.lossReason())
		}
	default:
		p.wait(b)
	}
}

// wait offers the rest of b to all blocked subscribers at the same time until each has taken everything,
// or is gone, or is slow and loses it, or the Forwarder is closed. The publisher is not read meanwhile.
func (p *publisher) wait(b *zmtp.Batch) {
	ticker := time.NewTicker(waitTick)
	defer ticker.Stop()
	last := time.Now()
	lastTick := last
	for _, l := range p.blocked {
		l.standing = 0
		l.sub.look(last, 0)
	}
	p.uncharged = 0
	for {
		cases := append(make([]reflect.SelectCase, 0, 2+len(p.blocked)), receive(p.f.stop), receive(ticker.C))
		blocked := p.blocked[:0]
		for _, l := range p.blocked {
			room := l.sub.peer.Room() // before the offer; a connection that is lost opens it too
			if p.settle(l, b) {
				continue
			}
			blocked = append(blocked, l)
			if len(cases) < maxWatched {
				cases = append(cases, receive(room))
			}
		}
		p.blocked = blocked
		if len(blocked) == 0 {
			return
		}
		if policy := p.f.policy(); policy == Drop || policy == Disconnect {
			p.overload(b) // it has changed
			return
		}
		chosen, _, _ := reflect.Select(cases)
		now := time.Now()
		p.waited.Add(int64(now.Sub(last)))
		for _, l := range blocked {
			l.sub.blocked.Add(int64(now.Sub(last)))
		}
		last = now
		switch chosen {
		case 0:
			for _, l := range blocked {
				p.router.drop(l, b, zmtp.DropClosed)
			}
			return
		case 1:
			// A tick that comes late says that the machine is too busy to run this process. Then the
			// subscribers may not run either.
			p.charge(now, min(now.Sub(lastTick), waitTick))
			lastTick = now
		}
	}
}

func receive[T any](ch <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
}

// settle reports whether the publisher need not wait for the subscriber of l any longer.
func (p *publisher) settle(l *lane, b *zmtp.Batch) bool {
	switch {
	case l.offer(b):
	case l.sub.gone():
		p.router.drop(l, b, zmtp.DropConnectionLost)
	case l.sub.loses():
		p.router.drop(l, b, zmtp.DropFull)
	default:
		return false
	}
	return true
}

// charge looks at the progress of the subscribers for which the publisher waits. If one lags, it puts the
// time of the wait to its account, and finds the subscribers that are slow: those for which the publisher
// cannot wait any longer without exceeding its budget. What a subscriber has used up counts twice, so that
// the first slow one leaves half of the budget to the next, and one that pauses for once does not lose
// messages because of others.
func (p *publisher) charge(now time.Time, d time.Duration) {
	p.uncharged += d
	budget := p.f.budget()
	spent := p.held.sum(now) >= budget
	held := false
	for _, l := range p.blocked {
		l.lags = l.sub.look(now, d) || l.stands(d) > budget/2 || spent && l.sub.relapses(now)
		held = held || l.lags
	}
	if !held {
		return
	}
	p.held.add(now, p.uncharged)
	for _, l := range p.blocked {
		if !l.lags {
			continue
		}
		used := l.sub.charge(now, p.uncharged)
		switch p.f.policy() {
		case Adaptive:
			if used+p.held.sum(now) >= budget {
				l.sub.slows(losesMessages)
			}
		case Block:
			if used >= budget {
				l.sub.slows(isWaitedFor)
			}
		}
	}
	p.uncharged = 0
}

// stands returns for how long the connection of l's subscriber has taken nothing, of which the publisher
// has now waited for d more.
func (l *lane) stands(d time.Duration) time.Duration {
	if _, _, written := l.sub.peer.Queue(); written != l.written {
		l.written, l.standing = written, 0
	} else {
		l.standing += d
	}
	return l.standing
}

// gone reports whether the connection was given up.
func (s *subscriber) gone() bool {
	select {
	case <-s.peer.Done():
		return true
	default:
		return false
	}
}

// lossReason is why messages are lost that s did not take.
func (s *subscriber) lossReason() zmtp.DropReason {
	if s.gone() {
		return zmtp.DropConnectionLost
	}
	return zmtp.DropFull
}

// disconnect closes the connection of s, which is slow.
func (s *subscriber) disconnect() {
	if s.gone() || s.expelled.Swap(true) {
		return
	}
	msgs, bytes, _ := s.peer.Queue()
	s.log.Warn("slow subscriber: it is disconnected", "node", s.nodeID(),
		"queued", msgs, "bytes", bytes, "dropped", s.peer.Stats().Dropped)
	s.peer.Close(wire.Errorf(wire.SlowConsumer, "%d messages of %d bytes wait for it", msgs, bytes))
}
