package zmtp

import (
	"context"
	"errors"
	"iter"

	"zmtpd/zmtp/wire"
)

// receiver is the half of a socket from which the application receives. It is embedded by the types
// that have one.
type receiver struct {
	socket *Socket
	// match reports whether the application wants messages with this first part. Nil: all.
	match func(topic []byte) bool
}

// newReceiver gives s an inbox.
func newReceiver(s *Socket) receiver {
	s.inbox = newInbox(s.cfg.RecvHWM, s.cfg.RecvBytes, s.cfg.TotalRecvBytes)
	s.inbox.watchers = &s.watchers
	return receiver{socket: s}
}

// deliver queues messages from p for the application. It waits while the queue of p is full.
func (r receiver) deliver(p *Peer, b *Batch) {
	if r.socket.conflates(PULL, SUB, DEALER, GATHER) {
		p.Drop(DropReplaced, r.socket.inbox.replace(&p.inPipe, b))
		return
	}
	if n := r.socket.inbox.put(&p.inPipe, b); n > 0 {
		r.socket.drop(DropClosed, n)
	}
}

// filter removes the messages of b that do not match. It reports whether any are left.
func (r receiver) filter(b *Batch) bool {
	if r.match == nil {
		return true
	}
	kept := b.spans[:0]
	for i := range b.spans {
		if r.match(b.Topic(i)) {
			kept = append(kept, b.spans[i])
		}
	}
	r.socket.filtered.Add(uint64(len(b.spans) - len(kept)))
	b.spans = kept
	return len(kept) > 0
}

// matching calls recv until it returns a message that matches, or an error.
func (r receiver) matching(recv func() (Message, error)) (Message, error) {
	for {
		m, err := recv()
		if err != nil || r.match == nil {
			return m, err
		}
		if topic, _ := cutPart(m.wire); r.match(topic) {
			return m, nil
		}
		r.socket.filtered.Add(1)
	}
}

// matchingBatch is matching for batches.
func (r receiver) matchingBatch(recv func() (*Batch, error)) (*Batch, error) {
	for {
		b, err := recv()
		if err != nil || r.filter(b) {
			return b, err
		}
		b.Release()
	}
}

// Recv returns the next message, of the peers in turn. The message owns its memory; one of at most
// 512 bytes shares a block of 4 KiB with others. Recv waits until there is a message. It returns
// the cause of ctx's end when that comes first, and ErrClosed when the socket was shut down and the
// last message was received.
func (r receiver) Recv(ctx context.Context) (Message, error) {
	return r.matching(func() (Message, error) { return r.socket.inbox.recv(ctx) })
}

// TryRecv is Recv without waiting: it returns ErrWouldBlock instead.
func (r receiver) TryRecv() (Message, error) { return r.matching(r.socket.inbox.tryRecv) }

// RecvBatch is Recv for the messages of one peer that arrived together. The caller owns the batch
// and should Release it; with Config.TotalRecvBytes or Config.Memory it must.
func (r receiver) RecvBatch(ctx context.Context) (*Batch, error) {
	return r.matchingBatch(func() (*Batch, error) { return r.socket.inbox.recvBatch(ctx) })
}

// TryRecvBatch is RecvBatch without waiting: it returns ErrWouldBlock instead.
func (r receiver) TryRecvBatch() (*Batch, error) {
	return r.matchingBatch(r.socket.inbox.tryRecvBatch)
}

// All returns an iterator over the messages that Recv returns. It ends when the socket was shut
// down and the last message received, or with an error when ctx ends.
func (r receiver) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := r.Recv(ctx)
			if errors.Is(err, ErrClosed) || !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Pull is the receiving end of a pipeline (RFC 30). It receives from its peers in turn. While the
// application does not receive, RecvHWM messages and RecvBytes of each peer wait, and about
// TotalRecvBytes of all together; beyond that their connections are not read.
type Pull struct {
	*Socket
	receiver
}

// NewPull returns a Pull socket.
func NewPull(cfg Config) *Pull {
	s := new(Pull)
	s.Socket = NewSocket(wire.PULL, (*pullPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	return s
}

type pullPattern Pull

func (*pullPattern) Attach(*Peer) error  { return nil }
func (*pullPattern) Detach(*Peer, error) {}

func (s *pullPattern) Receive(p *Peer, b *Batch) error {
	s.deliver(p, b)
	return nil
}
