package zmtp

import (
	"sync"

	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// subscriber is the part of a socket that subscribes. It keeps what the application has subscribed
// and tells all publishers. It is embedded by the types that have one.
type subscriber struct {
	socket  *Socket
	verbose bool                  // all cancellations are sent
	topics  topics.Trie[struct{}] // one subscriber: this socket

	mu     sync.Mutex // over a change and its sending, so that all publishers see one order
	counts map[string]int
	peers  map[*Peer]struct{}
}

// Subscribe asks all publishers for the messages whose first part begins with topic; the empty
// topic stands for all messages. Subscriptions are counted: each is sent, but a cancellation only
// when it is the last for its topic. A publisher that connects later, or again, gets every current
// topic first. Subscribe does not wait. It fails for a topic above DefaultMaxTopicSize.
func (c *subscriber) Subscribe(topic string) error {
	return c.change([]byte(topic), true, false)
}

// SubscribeBytes is Subscribe for bytes, which it does not keep.
func (c *subscriber) SubscribeBytes(topic []byte) error { return c.change(topic, true, false) }

// Unsubscribe takes one Subscribe of the topic back. A topic that is not subscribed is ignored, as
// in libzmq.
func (c *subscriber) Unsubscribe(topic string) error {
	return c.change([]byte(topic), false, false)
}

// UnsubscribeBytes is Unsubscribe for bytes, which it does not keep.
func (c *subscriber) UnsubscribeBytes(topic []byte) error { return c.change(topic, false, false) }

// Topics returns the number of distinct topics that are subscribed (ZMQ_TOPICS_COUNT).
func (c *subscriber) Topics() int { return c.topics.Root().Len() }

// change counts a subscription or its cancellation and sends it to the publishers if they have to
// know it: as a message if asMessage is set, else in the form of the peer's ZMTP version.
func (c *subscriber) change(topic []byte, on, asMessage bool) error {
	if len(topic) > DefaultMaxTopicSize {
		return wire.Errorf(wire.TopicTooLong, "topic of %d bytes, the limit is %d", len(topic),
			DefaultMaxTopicSize)
	}
	if c.socket.closing.Load() {
		return ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.count(string(topic), on) && !c.verbose {
		return nil
	}
	for p := range c.peers {
		p.sendSubscription(topic, on, asMessage || p.greeting.V30())
	}
	return nil
}

// count counts a change and reports whether the publishers have to be told: of every subscription,
// and of the last cancellation. Caller holds the lock.
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

// attach sends every current topic to a new publisher.
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

// room implements distributor. Nothing that is sent upstream waits.
func (*subscriber) room() *gate { return new(gate) }

// trySend implements distributor.
func (c *subscriber) trySend(m Message) error {
	if u := upstreamOf(m); u.Subscription {
		return c.change(u.Topic, u.On, true)
	}
	return c.distribute(1, func(p *Peer) int {
		if p.OfferMessage(m) {
			return 1
		}
		return 0
	})
}

// trySendBatch implements distributor.
func (c *subscriber) trySendBatch(b *Batch, first int) (n int, err error) {
	for r := (Run{first, first}); ; r.To++ {
		var u Upstream
		if r.To < b.Len() {
			if u = upstreamOf(b.Message(r.To)); !u.Subscription {
				continue // distribute it together with the next one
			}
		}
		if r.From < r.To {
			if err := c.distribute(r.To-r.From,
				func(p *Peer) int { return p.Offer(b, []Run{r}) }); err != nil {
				return r.From - first, err
			}
		}
		if r.To == b.Len() {
			return r.To - first, nil
		}
		if err := c.change(u.Topic, u.On, true); err != nil {
			return r.To - first, err
		}
		r.From = r.To + 1
	}
}

// upstreamOf returns the meaning of a whole message to a publisher: a subscription, which has one
// part, or a message.
func upstreamOf(m Message) Upstream {
	if part, rest := cutPart(m.wire); len(rest) == 0 {
		if on, ok := subscription(part); ok {
			return Upstream{Subscription: true, On: on, Topic: part[1:]}
		}
	}
	return Upstream{Message: m}
}

// distribute calls offer for every publisher, which returns how many of msgs messages the publisher
// took; it drops the others.
func (c *subscriber) distribute(msgs int, offer func(*Peer) int) error {
	if c.socket.closing.Load() {
		return ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.peers {
		if took := offer(p); took < msgs {
			p.Drop(DropFull, msgs-took)
		}
	}
	return nil
}
