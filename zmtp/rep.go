package zmtp

import (
	"context"
	"sync"

	"zmtpd/zmtp/wire"
)

// Rep receives a request and sends the reply to it, in turn (RFC 28). Its peers are REQs and
// DEALERs. It takes requests from them in turn.
//
// Any other order than Recv, Send is ErrState, so there are no batches: a Router receives and
// answers batches of requests. Send does not wait: a reply to a peer that is gone, or that has no
// room since it does not read, is dropped and counted.
type Rep struct {
	*Socket
	in   receiver
	turn chan struct{} // has one element while a goroutine receives

	mu       sync.Mutex
	peer     *Peer  // that sent the request to which no reply was sent yet, nil if there is none
	envelope []byte // of that request: all parts up to the empty one
}

// NewRep returns a Rep socket.
func NewRep(cfg Config) *Rep {
	s := &Rep{turn: make(chan struct{}, 1)}
	s.Socket = NewSocket(wire.REP, (*repPattern)(s), cfg)
	s.in = newReceiver(s.Socket)
	return s
}

// Recv returns the next request, which owns its memory. It waits for one. It returns ErrState if no
// reply was sent to the last request, the cause of ctx's end when that comes first, and ErrClosed
// when the socket was shut down and the last request was received.
func (s *Rep) Recv(ctx context.Context) (Message, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Message{}, context.Cause(ctx)
	}
	return s.recv(func() (Message, error) { return s.in.Recv(ctx) })
}

// TryRecv is Recv without waiting: it returns ErrWouldBlock instead.
func (s *Rep) TryRecv() (Message, error) {
	select {
	case s.turn <- struct{}{}:
	default:
		return Message{}, ErrWouldBlock // another goroutine waits for the next request
	}
	return s.recv(s.in.TryRecv)
}

// recv receives a request and notes where its reply has to go. Caller has the turn.
func (s *Rep) recv(next func() (Message, error)) (Message, error) {
	defer func() { <-s.turn }()
	s.mu.Lock()
	busy := s.peer != nil
	s.mu.Unlock()
	if busy {
		return Message{}, s.wrongState()
	}
	m, err := next()
	if err != nil {
		return m, err
	}
	size := envelopeSize(m.wire)
	s.mu.Lock()
	s.peer, s.envelope = m.peer, m.wire[:size:size]
	s.mu.Unlock()
	s.watchers.open() // the reply may be sent
	m.wire = m.wire[size:]
	return m, nil
}

// Send sends the reply to the last request, whose memory it may keep. It returns ErrState if there
// is no request without a reply, and ErrClosed after the end of the socket. It does not wait.
func (s *Rep) Send(_ context.Context, m Message) error { return s.TrySend(m) }

// TrySend is Send.
func (s *Rep) TrySend(m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	if s.closing.Load() {
		return ErrClosed
	}
	s.mu.Lock()
	p, envelope := s.peer, s.envelope
	s.peer, s.envelope = nil, nil
	s.mu.Unlock()
	if p == nil {
		return ErrState
	}
	s.watchers.open() // the next request may be there
	reply := Message{wire: append(envelope, m.wire...)}
	if p.OfferMessage(reply) {
		return nil
	}
	if p.outbox.isClosed() {
		p.Drop(DropNoPeer, 1)
	} else {
		p.Drop(DropFull, 1)
	}
	return nil
}

// envelopeSize returns the size on the wire of the parts of a request up to and with the first
// empty one, 0 if there is none with a part behind it.
func envelopeSize(b []byte) int {
	for rest := b; ; {
		part, next := cutPart(rest)
		switch {
		case len(next) == 0:
			return 0
		case len(part) == 0:
			return len(b) - len(next)
		}
		rest = next
	}
}

type repPattern Rep

func (*repPattern) Attach(*Peer) error  { return nil }
func (*repPattern) Detach(*Peer, error) {}

// Receive drops requests without an empty part that ends the envelope, as libzmq does (rep.cpp).
func (s *repPattern) Receive(p *Peer, b *Batch) error {
	kept := b.spans[:0]
	for i := range b.spans {
		if envelopeSize(b.Message(i).wire) > 0 {
			kept = append(kept, b.spans[i])
		}
	}
	if n := len(b.spans) - len(kept); n > 0 {
		p.Drop(DropMalformed, n)
	}
	b.spans = kept
	if len(kept) > 0 {
		s.in.deliver(p, b)
	}
	return nil
}
