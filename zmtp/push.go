package zmtp

import (
	"context"
	"errors"
	"sync"

	"zmtpd/zmtp/wire"
)

// Push is the sending end of a pipeline (RFC 30): each message goes to one of its peers, by one of
// two strategies.
//
// Round robin, past those whose queue is full, is for messages without a key, which without
// Config.Key are all.
//
// Sticky is for those with one: messages with the same key go to the same peer as long as it is
// there, chosen by rendezvous hashing over the endpoints. The loss of a peer moves its keys and no
// others; when it comes back they do too. Every Push with the same endpoints chooses alike, also in
// another process. While the queue of that peer is full the sender waits, whoever else has room:
// spilling over would lose the order for which keys are there.
//
// An endpoint given to Connect takes part from the beginning, before anybody listens there, and
// what is queued for it survives the loss of the connection. With Config.Immediate only peers take
// part whose handshake is complete. What waits for a peer of that kind, or of one that was
// accepted, goes back when it is lost: to the other peers, before anything that is sent from then
// on, in its order. Messages without a key then come behind those that wait there; those of one key
// keep their order as long as the peers that were lost stay away. ZMTP has no acknowledgements:
// what was handed to the kernel and not read by the peer is lost. Of that the messages of the write
// that failed are counted, the rest nobody knows.
type Push struct {
	*Socket
	room gate // opened when a send that would have blocked should be tried again

	// mu may be taken with Socket.mu held, so nothing that is done with it calls the socket.
	mu    sync.Mutex
	ended bool        // takes nothing more
	lanes []*pushLane // of peers, and of endpoints, which outlive theirs
	next  int         // whose turn it is
	// of peers that are lost, for which no other had room; nothing else is sent before them
	returned []Message
}

// NewPush returns a Push socket.
func NewPush(cfg Config) *Push {
	s := new(Push)
	s.Socket = NewSocket(wire.PUSH, (*pushPattern)(s), cfg)
	return s
}

// Send queues m for one peer. While those that it may go to are full, or there is no peer, it waits
// for ctx. The message may be kept.
func (s *Push) Send(ctx context.Context, m Message) error {
	return s.wait(ctx, func() error { return s.TrySend(m) })
}

// SendBatch is Send for the messages of b, in order, as received or made by a [BatchBuilder].
// Without a key as many as fit go to one peer together. It returns how many were queued, which are
// all unless there is an error. The caller keeps the batch and may Release it at once: what was not
// copied holds its memory until it is sent.
func (s *Push) SendBatch(ctx context.Context, b *Batch) (n int, err error) {
	if b.Len() == 0 {
		return 0, nil
	}
	err = s.wait(ctx, func() error {
		took, err := s.trySendBatch(b, n)
		n += took
		return err
	})
	return n, err
}

// wait repeats try until it gives something else than ErrWouldBlock, or ctx or the socket ends.
func (s *Push) wait(ctx context.Context, try func() error) error {
	for {
		if err := try(); err != ErrWouldBlock {
			return err
		}
		room := s.room.wait()
		if err := try(); err != ErrWouldBlock {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takes(); err != nil {
		return err
	}
	if !s.put(m) {
		return ErrWouldBlock
	}
	return nil
}

// trySendBatch queues the messages of b from first on, until one would have to wait, and returns
// how many it has queued.
func (s *Push) trySendBatch(b *Batch, first int) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takes(); err != nil {
		return 0, err
	}
	n = s.putBatch(b, first)
	if first+n < b.Len() {
		return n, ErrWouldBlock
	}
	return n, nil
}

// takes returns why nothing can be sent at present, if so. Caller holds the lock.
func (s *Push) takes() error {
	switch {
	case s.ended || s.closing.Load():
		return ErrClosed
	case len(s.returned) > 0:
		return ErrWouldBlock
	}
	return nil
}

// Returned returns how many messages of peers that are lost wait until another has room, and their
// bytes on the wire.
func (s *Push) Returned() (msgs int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.returned {
		bytes += int64(len(m.wire))
	}
	return len(s.returned), bytes
}

// Shutdown is that of Socket. While messages wait that would come back when their peer is lost, or
// have, it goes on to listen and to connect, so that whoever is there last can have them.
func (s *Push) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	for room := s.room.wait(); !s.settled(); room = s.room.wait() {
		select {
		case <-room:
			continue
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		break
	}
	err := s.Socket.Shutdown(ctx)
	n := s.discardReturned()
	if e, ok := errors.AsType[*LingerError](err); ok {
		e.Dropped += uint64(n)
	} else if n > 0 {
		err = &LingerError{Dropped: uint64(n), Err: context.Cause(ctx)}
	}
	return err
}

// Close is Shutdown without waiting for anything: what is queued is dropped and counted.
func (s *Push) Close() error {
	err := s.Socket.Close()
	s.discardReturned()
	return err
}

// settled reports whether nothing waits that is not bound to an endpoint. If so, who waits for room
// is woken when it has changed.
func (s *Push) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	settled := len(s.returned) == 0
	for _, l := range s.lanes {
		if !l.parked && !l.awaitEmpty() {
			settled = false
		}
	}
	return settled
}

// discardReturned drops what no peer will have and returns how many messages that was. The socket's
// goroutines are gone.
func (s *Push) discardReturned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.returned)
	s.drop(DropClosed, n)
	for _, m := range s.returned {
		s.memory.Release(int64(len(m.wire)))
	}
	s.returned = nil
	return n
}

type pushPattern Push

// park implements parker.
func (s *pushPattern) park() *outbox {
	if s.cfg.Immediate {
		return nil
	}
	live := s.live.Load()
	ob := newOutbox(live.SendHWM, live.SendBytes, s.memory)
	ob.onRoom = (*Push)(s).hasRoom
	return ob
}

// parked implements parker.
func (s *pushPattern) parked(ob *outbox, endpoint string) {
	(*Push)(s).add(newPushLane(ob, endpoint, true))
}

func (s *pushPattern) Attach(p *Peer) error {
	if p.parked {
		return nil // its lane is there since Connect
	}
	p.outbox.onRoom = (*Push)(s).hasRoom
	p.outbox.memory = s.memory // what waits there outlives the connection
	p.takeBack = func() { (*Push)(s).takeBack(p.outbox) }
	(*Push)(s).add(newPushLane(p.outbox, p.name(), false))
	return nil
}

// Detach has nothing to do: takeBack comes before it.
func (*pushPattern) Detach(*Peer, error) {}

// Receive drops what a PULL peer has no right to send.
func (*pushPattern) Receive(*Peer, *Batch) error { return nil }
