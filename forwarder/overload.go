package forwarder

import (
	"reflect"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// maxWatched bounds how many subscribers can wake a publisher that waits for them; it looks after the others when its
// timer fires. reflect.Select takes at most 65536.
const maxWatched = 4096

// overload does what the policy says with the lanes whose subscribers did not take everything of b.
func (p *publisher) overload(b *zmtp.Batch) {
	switch p.f.policy() {
	case Drop:
		for _, l := range p.blocked {
			p.router.drop(l, b, l.sub.lossReason())
			l.sub.loses()
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

// wait offers the rest of b again and again, to all blocked subscribers at the same time, until each has taken everything,
// or is gone, or has stalled and may lose messages, or the Forwarder is closed.
func (p *publisher) wait(b *zmtp.Batch) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		cases := append(make([]reflect.SelectCase, 0, 2+len(p.blocked)), receive(p.f.stop), receive(timer.C))
		next := p.f.patience() / 4 // a fraction, so that progress is seen close to when it happens
		blocked := p.blocked[:0]
		for _, l := range p.blocked {
			room := l.sub.peer.Room()
			settled, patience := p.settle(l, b, room)
			if settled {
				continue
			}
			blocked = append(blocked, l)
			if len(cases) < maxWatched {
				cases = append(cases, receive(room))
			}
			next = min(next, patience)
		}
		p.blocked = blocked
		if len(blocked) == 0 {
			return
		}
		if policy := p.f.policy(); policy == Drop || policy == Disconnect {
			p.overload(b) // it has changed
			return
		}
		timer.Reset(next)
		begin := time.Now()
		chosen, _, _ := reflect.Select(cases)
		waited := time.Since(begin)
		p.waited.Add(int64(waited))
		for _, l := range blocked {
			l.sub.waitedFor(waited)
		}
		if chosen == 0 {
			for _, l := range blocked {
				p.router.drop(l, b, zmtp.DropClosed)
			}
			return
		}
	}
}

func receive[T any](ch <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
}

// settle reports whether nothing is left to wait for, and if not, when it should be called again at the latest. room was
// taken before. A subscriber that is gone opens it too.
func (p *publisher) settle(l *lane, b *zmtp.Batch, room <-chan struct{}) (settled bool, patience time.Duration) {
	s := l.sub
	if l.offer(b) {
		s.relax()
		return true, 0
	}
	if s.gone() {
		p.router.drop(l, b, zmtp.DropConnectionLost)
		return true, 0
	}
	patience = s.patience(room)
	if patience > 0 {
		return false, patience
	}
	if s.f.policy() == Adaptive {
		p.router.drop(l, b, zmtp.DropFull)
		return true, 0
	}
	return false, s.f.patience()
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

// relax says that s took what somebody waited with: the next who waits begins to watch it anew.
func (s *subscriber) relax() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = time.Time{}
}

// patience returns for how long s, which has just refused something, may go on without taking anything; 0 says that it is
// stalled. room opens when it is not any more.
func (s *subscriber) patience(room <-chan struct{}) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled.Load() != 0 {
		return 0
	}
	now := time.Now()
	msgs, bytes, written := s.peer.Queue()
	if written != s.written || s.moved.IsZero() {
		s.written, s.moved = written, now
	}
	if left := s.f.patience() - now.Sub(s.moved); left > 0 {
		return left
	}
	s.moved = time.Time{}
	s.stalled.Store(now.UnixNano())
	dropped := s.peer.Stats().Dropped
	text := "subscriber stalled, it loses messages until it reads"
	if s.f.policy() == Block {
		text = "subscriber stalled, publishers wait for it"
	}
	s.log.Warn(text, "node", s.nodeID(), "queued", msgs, "bytes", bytes, "dropped", dropped)
	s.f.watches.Go(func() { s.watch(room, now, written, dropped) })
	return 0
}

// watch waits until s, stalled since then when written bytes had gone out and dropped messages had been lost, has drained to half
// or is gone. It ends with the connection at the latest.
func (s *subscriber) watch(room <-chan struct{}, since time.Time, written, dropped uint64) {
	select {
	case <-room:
	case <-s.peer.Done():
	}
	text := "subscriber reads again"
	_, _, now := s.peer.Queue()
	switch { // all of these open room as well
	case s.gone():
		text = "stalled subscriber is gone"
	case s.f.closing.Load():
		text = "subscriber was stalled, shutting down"
	case now == written:
		text = "stalled subscriber has room again, a limit was raised"
	}
	s.stalled.Store(0)
	s.log.Warn(text, "node", s.nodeID(),
		"dropped", s.peer.Stats().Dropped-dropped, "after", time.Since(since).Round(time.Millisecond))
}

// stalledSince returns since when s is stalled, zero if it is not.
func (s *subscriber) stalledSince() time.Time {
	if ns := s.stalled.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// disconnect closes the connection of s, which does not read fast enough.
func (s *subscriber) disconnect() {
	if s.gone() || s.expelled.Swap(true) {
		return
	}
	s.stalled.CompareAndSwap(0, time.Now().UnixNano())
	msgs, bytes, _ := s.peer.Queue()
	s.log.Warn("subscriber does not keep up and is disconnected", "node", s.nodeID(),
		"queued", msgs, "bytes", bytes, "dropped", s.peer.Stats().Dropped)
	s.peer.Close(wire.Errorf(wire.SlowConsumer, "%d messages of %d bytes wait for it", msgs, bytes))
}
