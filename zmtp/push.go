package zmtp

import (
	"context"
	"slices"
	"sync"

	"zmtpd/zmtp/wire"
)

// Push is the sending end of a pipeline (RFC 30): whole messages go to its peers round robin, past those whose queue is
// full. An endpoint given to Connect takes part from the beginning, before anybody listens there, unless
// Config.Immediate is set; what is queued for it survives the loss of the connection. What was being sent when a
// connection broke is lost.
type Push struct {
	*Socket
	room gate // opened when a send that would have blocked should be tried again

	mu    sync.Mutex
	lanes []*outbox // of peers, and of endpoints, which outlive theirs
	next  int       // whose turn it is
}

// NewPush returns a Push socket.
func NewPush(cfg Config) *Push {
	s := new(Push)
	s.Socket = NewSocket(wire.PUSH, (*pushPattern)(s), cfg)
	return s
}

func (s *Push) add(l *outbox) {
	s.mu.Lock()
	s.lanes = append(s.lanes, l)
	s.mu.Unlock()
	s.room.open()
}

func (s *Push) remove(l *outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.lanes, l); i >= 0 {
		s.lanes = slices.Delete(s.lanes, i, i+1)
		if s.next > i {
			s.next--
		}
	}
}

// Send queues m for one peer. While all queues are full, or there is no peer, it waits for ctx. The message may be kept.
func (s *Push) Send(ctx context.Context, m Message) error {
	for {
		if err := s.TrySend(m); err != ErrWouldBlock {
			return err
		}
		room := s.room.wait()
		if err := s.TrySend(m); err != ErrWouldBlock {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
}

// TrySend is Send without waiting: it returns ErrWouldBlock instead.
func (s *Push) TrySend(m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	if s.closing.Load() {
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for range len(s.lanes) {
		if s.next >= len(s.lanes) {
			s.next = 0
		}
		l := s.lanes[s.next]
		ok := l.offerMessage(m)
		if !ok && l.isClosed() { // its endpoint was given up
			s.lanes = slices.Delete(s.lanes, s.next, s.next+1)
			continue
		}
		s.next++
		if ok {
			return nil
		}
	}
	return ErrWouldBlock
}

type pushPattern Push

// park implements parker.
func (s *pushPattern) park() *outbox {
	if s.cfg.Immediate {
		return nil
	}
	live := s.live.Load()
	ob := newOutbox(live.SendHWM, live.SendBytes)
	ob.onRoom = s.room.open
	return ob
}

// parked implements parker.
func (s *pushPattern) parked(ob *outbox) { (*Push)(s).add(ob) }

func (s *pushPattern) Attach(p *Peer) error {
	if p.parked {
		return nil // its lane is there since Connect
	}
	p.outbox.onRoom = s.room.open
	(*Push)(s).add(p.outbox)
	return nil
}

func (s *pushPattern) Detach(p *Peer, _ error) {
	if !p.parked {
		(*Push)(s).remove(p.outbox)
	}
}

// Receive drops what a PULL peer has no right to send.
func (*pushPattern) Receive(*Peer, *Batch) error { return nil }

func (*pushPattern) Subscribe(*Peer, []byte, bool) error { return nil }
