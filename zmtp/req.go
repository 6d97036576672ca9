package zmtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"zmtpd/zmtp/wire"
)

// ReqOptions are the options of a Req beside Config. The zero value is libzmq's default.
type ReqOptions struct {
	// Relaxed lets the application send another request before the reply to the last one, which
	// then is dropped (ZMQ_REQ_RELAXED). Set Correlate too: otherwise a late reply of the same peer
	// is taken for that to the new request.
	Relaxed bool
	// Correlate sends a number with each request, and drops replies that do not have it
	// (ZMQ_REQ_CORRELATE). The peers have to send it back, as a REP does.
	Correlate bool
	// Immediate gives requests only to peers whose handshake is complete, not to endpoints that are
	// still being connected (ZMQ_IMMEDIATE).
	Immediate bool
	// ProbeRouter sends an empty message on each new connection (ZMQ_PROBE_ROUTER).
	ProbeRouter bool
}

// Req sends a request and receives the reply to it, in turn (RFC 28). Its peers are REPs and
// ROUTERs. Each request goes to the next peer.
//
// Send waits for room in the queue of a peer, and Recv for the reply. Any other order is ErrState,
// so there are no batches: a second request may not be sent before the reply to the first. A Dealer
// sends batches of requests, each with an empty first part, and a Router answers them. When ctx
// ends Recv, the request is still waited for: call Recv again, or Send with Relaxed.
//
// A request that waits for an endpoint, or for a peer that is lost, is sent when the connection is
// back, or to another peer. One that was sent is not repeated. A reply counts if it comes from the
// peer that has the request, or from any if that peer was lost. Other replies are dropped and
// counted.
type Req struct {
	*Socket
	balance *loadBalancer
	opt     ReqOptions

	mu      sync.Mutex
	stage   reqStage
	number  uint32  // of the request
	to      *outbox // that took the request, nil if its peer was lost
	reply   *Batch  // of one message, nil until there is one
	changed gate    // stage or reply has changed
}

type reqStage uint8

const (
	reqIdle reqStage = iota
	reqSent          // the reply has not come, or was not received
)

// NewReq returns a Req socket.
func NewReq(cfg Config, options ...ReqOptions) *Req {
	opt := oneOption(options)
	s := &Req{opt: opt, number: rand.Uint32()}
	s.Socket = NewSocket(wire.REQ, (*reqPattern)(s), cfg)
	s.balance = &loadBalancer{immediate: opt.Immediate, memory: s.memory}
	s.balance.opened.also = &s.watchers
	s.balancer = s.balance
	return s
}

// Send sends a request, whose memory it may keep. It waits while there is no peer, or no room in
// the queue of any. It returns ErrState if the reply to the last request was not received and
// Relaxed is not set, the cause of ctx's end when that comes first, and ErrClosed after the end of
// the socket.
func (s *Req) Send(ctx context.Context, m Message) error {
	return awaitRoom(ctx, s.Socket, &s.balance.opened, func() error { return s.TrySend(m) })
}

// TrySend is Send without waiting: it returns ErrWouldBlock instead.
func (s *Req) TrySend(m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == reqSent && !s.opt.Relaxed {
		return s.wrongState()
	}
	var request Message
	if s.opt.Correlate {
		request = m.Prepend(binary.BigEndian.AppendUint32(nil, s.number+1), nil)
	} else {
		request = m.Prepend(nil)
	}
	to, err := s.balance.trySendTo(request)
	if err != nil {
		return err
	}
	s.number++
	s.stage, s.to = reqSent, to
	s.setReply(nil)
	return nil
}

// setReply replaces the reply. Caller holds the lock.
func (s *Req) setReply(b *Batch) {
	if s.reply != nil {
		s.reply.Release()
	}
	s.reply = b
	s.changed.open()
	s.watchers.open()
}

// Recv returns the reply to the request, which owns its memory. It waits for it. It returns
// ErrState if no request was sent, the cause of ctx's end when that comes first, and ErrClosed
// after the end of the socket.
func (s *Req) Recv(ctx context.Context) (Message, error) {
	for {
		changed := s.changed.wait()
		m, err := s.TryRecv()
		if err != ErrWouldBlock {
			return m, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		case <-s.ended: // nothing more comes
		}
	}
}

// TryRecv is Recv without waiting: it returns ErrWouldBlock instead.
func (s *Req) TryRecv() (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stage == reqIdle:
		return Message{}, s.wrongState()
	case s.reply == nil:
		select {
		case <-s.ended:
			return Message{}, ErrClosed
		default:
			return Message{}, ErrWouldBlock
		}
	}
	m := Message{wire: bytes.Clone(s.reply.Message(0).wire), peer: s.reply.peer}
	s.stage = reqIdle
	s.setReply(nil)
	return m, nil
}

type reqPattern Req

func (s *reqPattern) Attach(p *Peer) error {
	if s.opt.ProbeRouter {
		p.greet(probe)
	}
	s.balance.attach(p)
	if takeBack := p.takeBack; takeBack != nil {
		p.takeBack = func() {
			s.lost(p.outbox)
			takeBack()
		}
	}
	return nil
}

// lost notes that the peer of an outbox is lost, so that the reply may come from another one.
func (s *reqPattern) lost(o *outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to == o {
		s.to = nil
	}
}

// Receive keeps the reply that is waited for.
func (s *reqPattern) Receive(p *Peer, b *Batch) error {
	for i := range b.spans {
		if why, ok := s.take(p, b, i); !ok {
			p.Drop(why, 1)
		}
	}
	return nil
}

// take keeps message i of b if it is the reply that is waited for, or returns why it is dropped.
// libzmq closes the connection over tcp when the envelope is not well formed, and goes on over
// inproc (req.cpp); this goes on.
func (s *reqPattern) take(p *Peer, b *Batch, i int) (why DropReason, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	expected := s.stage == reqSent && s.reply == nil && (s.to == nil || s.to == p.outbox)
	if s.opt.Correlate {
		id, ok := b.CutPart(i)
		if !ok || len(id) != 4 {
			return DropMalformed, false
		}
		expected = expected && binary.BigEndian.Uint32(id) == s.number
	}
	if delimiter, ok := b.CutPart(i); !ok || len(delimiter) != 0 {
		return DropMalformed, false
	}
	if !expected {
		return DropUnexpected, false
	}
	(*Req)(s).setReply(b.Keep([]Run{{i, i + 1}}))
	return 0, true
}

func (*reqPattern) Detach(*Peer, error) {}
