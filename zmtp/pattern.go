package zmtp

import (
	"bytes"

	"zmtpd/zmtp/wire"
)

// Pattern implements a socket type for [NewSocket]: what it does with its peers. The types of this
// package have theirs; programs that use them need none. The methods of one peer are called
// in this order: Attach once, then Receive from the peer's read goroutine, then Detach once. The
// methods of different peers run at the same time. A Pattern whose peers send commands also
// implements [CommandHandler].
type Pattern interface {
	// Attach takes a peer whose handshake is complete. It must not block. What it sends to the peer
	// goes out before anything else. An error refuses the peer.
	Attach(*Peer) error
	// Receive takes the messages of one read, in order. The batch is valid until Receive returns.
	// Blocking stops the reading from this peer, which is its back-pressure. An error closes the
	// connection.
	Receive(*Peer, *Batch) error
	// Detach takes a peer whose connection has ended, and the reason.
	Detach(*Peer, error)
}

// CommandHandler is a Pattern that acts on commands of its peers, such as SUBSCRIBE and CANCEL (RFC
// 37) or JOIN and LEAVE (RFC 48). It does not get READY, ERROR, PING and PONG, which are the
// socket's.
type CommandHandler interface {
	Pattern
	// Command takes a command that came after the handshake, in order with the messages, on the
	// peer's read goroutine. name and data are valid until Command returns. Blocking stops the
	// reading from this peer, which is its back-pressure. A handler ignores names that it does not
	// know (RFC 37). An error closes the connection.
	Command(p *Peer, name, data []byte) error
}

// Upstream is a piece of the messages that a subscriber sent to a publisher.
type Upstream struct {
	// Subscription is true for a subscription of Topic, or its cancellation if On is false.
	Subscription bool
	On           bool
	Topic        []byte
	// Message, unless it is empty, is a message for the application. With Subscription, the
	// subscription is its last part.
	Message Message
}

// Upstream calls f for each piece of the messages of b, in order, until it returns an error. A part
// that begins with a byte 1 or 0 is a subscription or its cancellation, in whatever place of a
// message it stands: it ends the message before it, as in libzmq's XPUB. What f gets refers to the
// batch, unless it is a message that had to be taken apart.
func (b *Batch) Upstream(f func(Upstream) error) error { return b.upstream(false, f) }

// upstream is Upstream, with onlyFirst as libzmq's xpub.cpp does with ZMQ_ONLY_FIRST_SUBSCRIBE.
func (b *Batch) upstream(onlyFirst bool, f func(Upstream) error) error {
	for i := range b.spans {
		m := b.Message(i)
		_, first := subscription(b.Topic(i))
		if b.spans[i].parts == 1 || onlyFirst && !first {
			if err := f(upstreamOf(m)); err != nil {
				return err
			}
			continue
		}
		if err := split(m, f); err != nil {
			return err
		}
	}
	return nil
}

func subscription(part []byte) (on, ok bool) {
	return len(part) > 0 && part[0] == 1, len(part) > 0 && part[0] <= 1
}

// split divides a message of several parts at the subscriptions in it. It allocates nothing for
// each part, as a peer may send many.
func split(m Message, f func(Upstream) error) error {
	begin, last := 0, 0 // where the current piece and its last part begin
	for at := 0; at < len(m.wire); last = at {
		part, rest := cutPart(m.wire[at:])
		at = len(m.wire) - len(rest)
		on, ok := subscription(part)
		if !ok {
			continue
		}
		u := Upstream{Subscription: true, On: on, Topic: part[1:]}
		if last > begin {
			u.Message = m.piece(begin, at, last)
		}
		begin = at
		if err := f(u); err != nil {
			return err
		}
	}
	switch {
	case begin == 0:
		return f(Upstream{Message: m})
	case begin < len(m.wire):
		return f(Upstream{Message: Message{wire: bytes.Clone(m.wire[begin:]), peer: m.peer}})
	}
	return nil
}

// piece returns a copy of the parts of m that are in wire[from:to], of which the last begins at
// last.
func (m Message) piece(from, to, last int) Message {
	b := bytes.Clone(m.wire[from:to])
	b[last-from] &^= byte(wire.More)
	return Message{wire: b, peer: m.peer}
}

// Rest returns Message without the subscription in it, the zero Message if there is nothing else.
// It owns its memory.
func (u Upstream) Rest() Message {
	m := u.Message
	if !u.Subscription {
		return Message{wire: bytes.Clone(m.wire), peer: m.peer}
	}
	end, last := 0, 0 // where the last part begins, and the part before it
	for at := 0; at < len(m.wire); {
		_, rest := cutPart(m.wire[at:])
		if len(rest) == 0 {
			break
		}
		last, at = at, len(m.wire)-len(rest)
		end = at
	}
	if end == 0 {
		return Message{}
	}
	return m.piece(0, end, last)
}

// CheckTopic checks a subscription of a peer that has held others against MaxTopicSize and
// MaxSubscriptions. A peer must be closed with the error.
func (p *Peer) CheckTopic(topic []byte, held int) error {
	switch cfg := &p.socket.cfg; {
	case len(topic) > cfg.MaxTopicSize:
		return wire.Errorf(wire.TopicTooLong, "topic of %d bytes, the limit is %d", len(topic),
			cfg.MaxTopicSize)
	case held >= cfg.MaxSubscriptions:
		return wire.Errorf(wire.TooManySubscriptions, "more than %d topics", cfg.MaxSubscriptions)
	}
	return nil
}
