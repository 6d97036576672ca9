package forwarder

import (
	"reflect"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const (
	// maxWatched bounds the subscribers that can wake a waiting publisher; at each tick it looks at
	// the others too. reflect.Select takes at most 65536 cases.
	maxWatched = 4096
	// waitTick is how often a waiting publisher checks the progress of its subscribers.
	waitTick = 10 * time.Millisecond
)

// overload applies the policy to the deliveries that did not fit their queues.
func (p *publisher) overload(b *zmtp.Batch) {
	switch p.f.policy() {
	case Drop:
		p.dropBlocked(b)
	case Disconnect:
		for _, d := range p.blocked {
			d.sub.disconnect()
			p.router.drop(d, b, d.sub.lossReason())
		}
	default:
		p.wait(b)
	}
}

// dropBlocked is the policy Drop.
func (p *publisher) dropBlocked(b *zmtp.Batch) {
	for _, d := range p.blocked {
		d.sub.slows(losesMessages)
		p.router.drop(d, b, d.sub.lossReason())
	}
}

// wait offers the rest of b to all blocked subscribers at the same time, until each of them has
// taken everything, is gone, or is slow and loses the rest, or until the Forwarder is closed.
func (p *publisher) wait(b *zmtp.Batch) {
	p.ticker.Reset(waitTick)
	defer p.ticker.Stop()
	last := time.Now()
	lastTick := last
	p.uncharged = 0
	for _, d := range p.blocked {
		d.standing = 0
		d.sub.beginWait(last)
	}
	for {
		rooms := p.rooms[:0]
		blocked := p.blocked[:0]
		for _, d := range p.blocked {
			room := d.sub.peer.Room() // before the offer; it opens when the connection is lost, too
			if p.settle(d, b) {
				d.sub.endWait(time.Now())
				continue
			}
			blocked = append(blocked, d)
			rooms = append(rooms, room)
		}
		p.blocked, p.rooms = blocked, rooms
		if len(blocked) == 0 {
			return
		}
		if policy := p.f.policy(); policy == Drop || policy == Disconnect {
			for _, d := range blocked {
				d.sub.endWait(time.Now())
			}
			p.overload(b) // the policy has changed
			return
		}
		woken := p.await(rooms)
		now := time.Now()
		p.waited.Add(int64(now.Sub(last)))
		for _, d := range blocked {
			d.sub.blocked.Add(int64(now.Sub(last)))
		}
		last = now
		switch woken {
		case byStop:
			for _, d := range blocked {
				d.sub.endWait(now)
				p.router.drop(d, b, zmtp.DropClosed)
			}
			return
		case byTick:
			// A late tick means that the machine is too busy to run this process, and perhaps the
			// subscribers, so it counts as one on time.
			p.charge(now, min(now.Sub(lastTick), waitTick))
			lastTick = now
		}
	}
}

// wake is what ends an await.
type wake int

const (
	byStop wake = iota // the Forwarder gives up what waits
	byTick
	byRoom // a subscriber has room, or is gone
)

// await waits until one of rooms opens, the next tick, or the end of the Forwarder.
func (p *publisher) await(rooms []<-chan struct{}) wake {
	if len(rooms) == 1 {
		select {
		case <-p.f.stop:
			return byStop
		case <-p.ticker.C:
			return byTick
		case <-rooms[0]:
			return byRoom
		}
	}
	cases := make([]reflect.SelectCase, 0, 2+min(len(rooms), maxWatched))
	cases = append(cases, receive(p.f.stop), receive(p.ticker.C))
	for _, room := range rooms[:min(len(rooms), maxWatched)] {
		cases = append(cases, receive(room))
	}
	chosen, _, _ := reflect.Select(cases)
	return min(wake(chosen), byRoom)
}

func receive[T any](ch <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
}

// settle reports whether the publisher need not wait for d any longer.
func (p *publisher) settle(d *delivery, b *zmtp.Batch) bool {
	switch {
	case d.offer(b):
	case d.sub.gone():
		p.router.drop(d, b, zmtp.DropConnectionLost)
	case d.sub.loses():
		p.router.drop(d, b, zmtp.DropFull)
	default:
		return false
	}
	return true
}

// charge is called at each tick, tick after the one before. If a subscriber lags, it charges the
// whole wait to the budget of the publisher and to the account of that subscriber, and finds the
// subscribers for which the publisher cannot wait any longer without exceeding its budget: those
// are slow.
//
// The use of one subscriber counts twice. So the first slow subscriber leaves half of the budget to
// the next, and a subscriber that pauses for once does not lose messages because of others.
func (p *publisher) charge(now time.Time, tick time.Duration) {
	p.uncharged += tick
	budget := p.f.budget()
	spent := p.held.sum(now) >= budget
	held := false
	for _, d := range p.blocked {
		d.lags = d.sub.look(now) || d.stands(tick) > budget/2 || spent && d.sub.relapses(now)
		held = held || d.lags
	}
	if !held {
		return
	}
	p.held.add(now, p.uncharged)
	for _, d := range p.blocked {
		if !d.lags {
			continue
		}
		used := d.sub.charge(now, p.uncharged)
		switch p.f.policy() {
		case Adaptive:
			if used+p.held.sum(now) >= budget {
				d.sub.slows(losesMessages)
			}
		case Block:
			if used >= budget {
				d.sub.slows(isWaitedFor)
			}
		}
	}
	p.uncharged = 0
}

// stands returns for how long the subscriber's connection has taken nothing while the publisher
// waited, after one more tick.
func (d *delivery) stands(tick time.Duration) time.Duration {
	if _, _, written := d.sub.peer.Queue(); written != d.written {
		d.written, d.standing = written, 0
	} else {
		d.standing += tick
	}
	return d.standing
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

// lossReason returns why messages are lost that s did not take.
func (s *subscriber) lossReason() zmtp.DropReason {
	if s.gone() {
		return zmtp.DropConnectionLost
	}
	return zmtp.DropFull
}

// disconnect closes the connection of s, whose queue is full.
func (s *subscriber) disconnect() {
	if s.gone() || s.expelled.Swap(true) {
		return
	}
	msgs, bytes, _ := s.peer.Queue()
	s.log.Warn("slow subscriber: it is disconnected", "node", s.nodeID(),
		"queued", msgs, "bytes", bytes, "dropped", s.peer.Stats().Dropped.Total())
	s.peer.Close(wire.Errorf(wire.SlowConsumer, "%d messages of %d bytes wait for it", msgs, bytes))
}
