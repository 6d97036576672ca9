package zmtp

import "context"

// sender is the half of a socket through which the application sends. It is embedded by the types
// that have one.
type sender struct {
	socket *Socket
	to     distributor
	// check returns why the socket type cannot send a message, wrapping ErrMessage. Nil: it sends
	// every message.
	check func(Message) error
}

// newSender returns a sender for s.
func newSender(s *Socket, to distributor, check func(Message) error) sender {
	to.room().also = &s.watchers
	return sender{s, to, check}
}

// distributor decides which peers get a message. Its methods are called from any goroutine.
type distributor interface {
	// trySend queues a message, or returns ErrWouldBlock when there is no room for it.
	trySend(m Message) error
	// trySendBatch queues the messages of b from first on, until one would have to wait, and
	// returns how many it has queued. The error is nil only if that was all.
	trySendBatch(b *Batch, first int) (n int, err error)
	// canSend reports whether trySend would queue a message to some peer. If not, room opens when
	// that may have changed.
	canSend() bool
	// room opens when a send that would have blocked should be tried again.
	room() *gate
}

// Send queues m, whose memory it may keep. When there is no room for m, as the socket type defines
// it, Send waits until there is. It returns the cause of ctx's end when that comes first, ErrClosed
// after the end of the socket, and ErrMessage for the zero Message.
func (s sender) Send(ctx context.Context, m Message) error {
	return awaitRoom(ctx, s.socket, s.to.room(), func() error { return s.TrySend(m) })
}

// TrySend is Send without waiting: it returns ErrWouldBlock instead.
func (s sender) TrySend(m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	if s.check != nil {
		if err := s.check(m); err != nil {
			return err
		}
	}
	return s.to.trySend(m)
}

// SendBatch is Send for the messages of b, in order, as received or made by a [BatchBuilder]. It
// returns how many were queued, which are all unless there is an error. The caller keeps the batch
// and may Release it at once: what was not copied holds its memory until it is sent.
func (s sender) SendBatch(ctx context.Context, b *Batch) (n int, err error) {
	err = awaitRoom(ctx, s.socket, s.to.room(), func() error {
		took, err := s.trySendBatch(b, n)
		n += took
		return err
	})
	return n, err
}

// TrySendBatch is SendBatch without waiting: it returns ErrWouldBlock when it has not queued all
// messages.
func (s sender) TrySendBatch(b *Batch) (n int, err error) { return s.trySendBatch(b, 0) }

func (s sender) trySendBatch(b *Batch, first int) (n int, err error) {
	good, bad := *b, error(nil)
	if s.check != nil {
		for i := first; i < b.Len() && bad == nil; i++ {
			if bad = s.check(b.Message(i)); bad != nil {
				good.spans = b.spans[:i]
			}
		}
	}
	if first < good.Len() {
		n, err = s.to.trySendBatch(&good, first)
	}
	if err == nil {
		err = bad
	}
	return n, err
}

// awaitRoom repeats try until it returns something other than ErrWouldBlock, or ctx or the socket
// ends. It tries again each time that gate opens.
func awaitRoom(ctx context.Context, s *Socket, gate *gate, try func() error) error {
	for {
		if err := try(); err != ErrWouldBlock {
			return err
		}
		room := gate.wait()
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
