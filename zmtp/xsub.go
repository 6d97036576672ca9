package zmtp

import (
	"sync"

	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// XSub receives from publishers what it has subscribed (RFC 29). It delivers whatever arrives,
// without a filter of its own. Subscriptions are counted: each is sent, a cancellation only when it
// is the last for its topic. A publisher that comes later, or comes back, gets every current topic
// first.
type XSub struct {
	*Socket
	receiver
	subs subscriber
}

// NewXSub returns an XSub socket.
func NewXSub(cfg Config) *XSub {
	s := new(XSub)
	s.Socket = NewSocket(wire.XSUB, (*xsubPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	return s
}

// Subscribe asks all publishers for the messages whose first part begins with topic. It does not
// wait.
func (s *XSub) Subscribe(topic []byte) error { return s.subs.change(s.Socket, topic, true, false) }

// Unsubscribe takes one Subscribe of the topic back. One that was never subscribed is ignored, as
// in libzmq.
func (s *XSub) Unsubscribe(topic []byte) error {
	return s.subs.change(s.Socket, topic, false, false)
}

// Send sends a message upstream to every publisher whose queue has room. One whose only part begins
// with a byte 1 or 0 is a subscription of the rest, or its cancellation, as in libzmq, and goes out
// in that form. Send does not wait.
func (s *XSub) Send(m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	if part := m.Part(0); m.NumParts() == 1 {
		if on, ok := subscription(part); ok {
			return s.subs.change(s.Socket, part[1:], on, true)
		}
	}
	return s.subs.send(s.Socket, m)
}

type xsubPattern XSub

func (s *xsubPattern) Attach(p *Peer) error            { s.subs.attach(p); return nil }
func (s *xsubPattern) Detach(p *Peer, _ error)         { s.subs.detach(p) }
func (s *xsubPattern) Receive(p *Peer, b *Batch) error { s.deliver(p, b); return nil }

// Sub is an XSub that only receives. It filters what it gets by its subscriptions, once more when
// the application receives it (libzmq, xsub.cpp): a publisher may not have seen a cancellation yet.
type Sub struct {
	*Socket
	receiver
	subs subscriber
}

// NewSub returns a Sub socket. It receives nothing before it subscribes.
func NewSub(cfg Config) *Sub {
	s := new(Sub)
	s.Socket = NewSocket(wire.SUB, (*subPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.match = func(topic []byte) bool { return s.subs.topics.Root().Any(topic) }
	return s
}

// Subscribe asks all publishers for the messages whose first part begins with topic; the empty
// topic is for all messages. It does not wait.
func (s *Sub) Subscribe(topic []byte) error { return s.subs.change(s.Socket, topic, true, false) }

// Unsubscribe takes one Subscribe of the topic back. One that was never subscribed is ignored, as
// in libzmq.
func (s *Sub) Unsubscribe(topic []byte) error {
	return s.subs.change(s.Socket, topic, false, false)
}

type subPattern Sub

func (s *subPattern) Attach(p *Peer) error    { s.subs.attach(p); return nil }
func (s *subPattern) Detach(p *Peer, _ error) { s.subs.detach(p) }
func (s *subPattern) Receive(p *Peer, b *Batch) error {
	if s.filter(b) {
		s.deliver(p, b)
	}
	return nil
}

// subscriber keeps what a socket has subscribed and tells its publishers.
type subscriber struct {
	topics topics.Trie[struct{}] // one subscriber: this socket

	mu     sync.Mutex // over a change and telling it, so that all publishers see the same order
	counts map[string]int
	peers  map[*Peer]struct{}
}

// change counts a subscription or its cancellation and tells the publishers what they have to know,
// as a message if asMessage is set, else in the form that each wants.
func (c *subscriber) change(s *Socket, topic []byte, on, asMessage bool) error {
	if len(topic) > DefaultMaxTopicSize {
		return wire.Errorf(wire.TopicTooLong, "topic of %d bytes, the limit is %d", len(topic),
			DefaultMaxTopicSize)
	}
	if s.closing.Load() {
		return ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.count(string(topic), on) {
		return nil
	}
	for p := range c.peers {
		p.sendSubscription(topic, on, asMessage || p.greeting.V30())
	}
	return nil
}

// count reports whether the change has to be told: every subscription, and the last cancellation.
// Caller holds the lock.
func (c *subscriber) count(topic string, on bool) bool {
	n := c.counts[topic]
	switch {
	case on:
		if c.counts == nil {
			c.counts = make(map[string]int)
		}
		c.counts[topic] = n + 1
		c.topics.Add(struct{}{}, topic)
		return true
	case n > 1:
		c.counts[topic] = n - 1
		return false
	case n == 1:
		delete(c.counts, topic)
		c.topics.Delete(struct{}{}, topic)
		return true
	}
	return false
}

// attach replays every current topic to a publisher that has come.
func (c *subscriber) attach(p *Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers == nil {
		c.peers = make(map[*Peer]struct{})
	}
	for topic := range c.topics.Root().Topics() {
		p.SendSubscription([]byte(topic), true)
	}
	c.peers[p] = struct{}{}
}

func (c *subscriber) detach(p *Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, p)
}

// send offers m to every publisher.
func (c *subscriber) send(s *Socket, m Message) error {
	if s.closing.Load() {
		return ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.peers {
		if !p.OfferMessage(m) {
			p.Drop(DropFull, 1)
		}
	}
	return nil
}
