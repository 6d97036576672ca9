package forwarder

import (
	"reflect"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// overload does what the policy says with the lanes whose subscribers did not take everything of b.
func (p *publisher) overload(b *zmtp.Batch) {
	switch p.f.cfg.Overload {
	case Drop:
		for _, l := range p.blocked {
			l.drop(l.sub.lossReason())
		}
	case Disconnect:
		for _, l := range p.blocked {
			l.sub.disconnect()
			l.drop(l.sub.lossReason())
		}
	default:
		p.wait(b)
	}
}

// wait offers the rest of b again and again, to all blocked subscribers at the same time, until each has taken everything,
// or is gone, or has stalled and may lose messages, or the Forwarder is closed.
func (p *publisher) wait(b *zmtp.Batch) {
	// A fraction of the time, so that progress is seen close to when it happens.
	tick := time.NewTicker(max(p.f.cfg.StallTimeout/4, 1))
	defer tick.Stop()
	for {
		cases := append(make([]reflect.SelectCase, 0, 2+len(p.blocked)), receive(p.f.stop), receive(tick.C))
		blocked := p.blocked[:0]
		for _, l := range p.blocked {
			room := l.sub.peer.Room()
			if l.settle(b, room) {
				continue
			}
			blocked = append(blocked, l)
			cases = append(cases, receive(room))
		}
		p.blocked = blocked
		if len(blocked) == 0 {
			return
		}
		if chosen, _, _ := reflect.Select(cases); chosen == 0 {
			for _, l := range blocked {
				l.drop(zmtp.DropClosed)
			}
			return
		}
	}
}

func receive[T any](ch <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)}
}

// settle reports whether nothing is left to wait for. room was taken before. A subscriber that is gone opens it too.
func (l *lane) settle(b *zmtp.Batch, room <-chan struct{}) bool {
	switch s := l.sub; {
	case l.offer(b):
		s.relax()
	case s.gone():
		l.drop(zmtp.DropConnectionLost)
	case s.overdue(room) && s.f.cfg.Overload == Adaptive:
		l.drop(zmtp.DropFull)
	default:
		return false
	}
	return true
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

// overdue reports whether s, which has just refused something, is stalled. room opens when it is not any more.
func (s *subscriber) overdue(room <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled.Load() != 0 {
		return true
	}
	now := time.Now()
	msgs, bytes, written := s.peer.Queue()
	if written != s.written || s.moved.IsZero() {
		s.written, s.moved = written, now
		return false
	}
	if now.Sub(s.moved) < s.f.cfg.StallTimeout {
		return false
	}
	s.moved = time.Time{}
	s.stalled.Store(now.UnixNano())
	dropped := s.peer.Stats().Dropped
	text := "subscriber stalled, it loses messages until it reads"
	if s.f.cfg.Overload == Block {
		text = "subscriber stalled, publishers wait for it"
	}
	s.f.log.Warn(text, "peer", s.peer.Remote(), "node", s.nodeID(), "queued", msgs, "bytes", bytes, "dropped", dropped)
	s.f.watches.Go(func() { s.watch(room, now, dropped) })
	return true
}

// watch waits until s, stalled since then when dropped messages had been lost, has drained to half or is gone. It ends with the
// connection at the latest.
func (s *subscriber) watch(room <-chan struct{}, since time.Time, dropped uint64) {
	select {
	case <-room:
	case <-s.peer.Done():
	}
	text := "subscriber reads again"
	switch {
	case s.gone():
		text = "stalled subscriber is gone"
	case s.f.closing.Load():
		text = "subscriber was stalled, shutting down" // which opens room as well
	}
	s.stalled.Store(0)
	s.f.log.Warn(text, "peer", s.peer.Remote(), "node", s.nodeID(),
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
	if s.gone() || !s.stalled.CompareAndSwap(0, time.Now().UnixNano()) {
		return
	}
	msgs, bytes, _ := s.peer.Queue()
	s.f.log.Warn("subscriber does not keep up and is disconnected", "peer", s.peer.Remote(), "node", s.nodeID(),
		"queued", msgs, "bytes", bytes, "dropped", s.peer.Stats().Dropped)
	s.peer.Close(wire.Errorf(wire.SlowConsumer, "%d messages of %d bytes wait for it", msgs, bytes))
}
