package zmtp

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// XPubOptions are the options of an XPub beside Config. The zero value is libzmq's default.
type XPubOptions struct {
	// Verbose passes on subscriptions to topics that another peer has subscribed already, too
	// (ZMQ_XPUB_VERBOSE).
	Verbose bool
	// Verboser passes on every subscription and every cancellation (ZMQ_XPUB_VERBOSER).
	Verboser bool
	// NoDrop makes Send wait until every subscriber has room, instead of dropping the message for
	// those that have none (ZMQ_XPUB_NODROP).
	NoDrop bool
	// Manual lets the application decide what a subscriber gets: all requests are passed on, and
	// only Grant and Revoke have an effect (ZMQ_XPUB_MANUAL). A last-value cache gives the value to
	// the newcomer alone with Peer.OfferMessage, behind Grant (ZMQ_XPUB_MANUAL_LAST_VALUE).
	Manual bool
	// OnlyFirstSubscribe takes a part that looks like a subscription for one only in messages whose
	// first part is one (ZMQ_ONLY_FIRST_SUBSCRIBE). Other messages reach the application as they
	// are.
	OnlyFirstSubscribe bool
	// Welcome, unless it is empty, is sent to each subscriber before anything else
	// (ZMQ_XPUB_WELCOME_MSG). A SUB filters it like any other message.
	Welcome Message
}

// XPub publishes messages to the peers that subscribed a prefix of their first part (RFC 29), and
// receives what subscribers send upstream: messages, and their subscriptions in the form of a
// message of one part, a byte 1 or 0 for a subscription or its cancellation, followed by the topic.
//
// Send does not wait: a subscriber without room loses the message, which is counted (DropFull).
// With NoDrop, Send waits until every subscriber that gets the message has room.
//
// Unlike libzmq's, a cancellation that answers no subscription of the same peer is not passed on,
// and with Verboser the loss of a peer gives as many cancellations as it had subscriptions.
type XPub struct {
	*Socket
	receiver
	sender
	pub publisher
}

// NewXPub returns an XPub socket.
func NewXPub(cfg Config, options ...XPubOptions) *XPub {
	opt := oneOption(options)
	s := new(XPub)
	s.Socket = NewSocket(wire.XPUB, (*xpubPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, &s.pub, nil)
	s.pub.XPubOptions, s.pub.socket, s.pub.inbox = opt, s.Socket, s.inbox
	return s
}

// Grant makes p, the Message.Peer of a request, a subscriber of topic, which need not be the topic
// that it asked for. It is for Manual. A peer that is gone is ignored.
func (s *XPub) Grant(p *Peer, topic []byte) { s.pub.grant(p, topic, true) }

// Revoke undoes a Grant.
func (s *XPub) Revoke(p *Peer, topic []byte) { s.pub.grant(p, topic, false) }

// Topics returns the number of distinct topics that are subscribed (ZMQ_TOPICS_COUNT).
func (s *XPub) Topics() int { return s.pub.matching().Len() }

type xpubPattern XPub

func (s *xpubPattern) Attach(p *Peer) error            { s.pub.attach(p); return nil }
func (s *xpubPattern) Detach(p *Peer, _ error)         { s.pub.detach(p) }
func (s *xpubPattern) Receive(p *Peer, b *Batch) error { return s.pub.receive(p, b) }
func (s *xpubPattern) Command(p *Peer, name, data []byte) error {
	return s.pub.command(p, name, data)
}

// Pub is an XPub that does not receive: it drops what subscribers send upstream. Send does not
// wait: a subscriber without room loses the message, which is counted (DropFull).
type Pub struct {
	*Socket
	sender
	pub publisher
}

// NewPub returns a Pub socket.
func NewPub(cfg Config) *Pub {
	s := new(Pub)
	s.Socket = NewSocket(wire.PUB, (*pubPattern)(s), cfg)
	s.sender = newSender(s.Socket, &s.pub, nil)
	s.pub.socket = s.Socket
	return s
}

// Topics returns the number of distinct topics that are subscribed (ZMQ_TOPICS_COUNT).
func (s *Pub) Topics() int { return s.pub.matching().Len() }

type pubPattern Pub

func (s *pubPattern) Attach(p *Peer) error            { s.pub.attach(p); return nil }
func (s *pubPattern) Detach(p *Peer, _ error)         { s.pub.detach(p) }
func (s *pubPattern) Receive(p *Peer, b *Batch) error { return s.pub.receive(p, b) }
func (s *pubPattern) Command(p *Peer, name, data []byte) error {
	return s.pub.command(p, name, data)
}

// publisher keeps the subscriptions of a socket's peers and sends to those that match.
type publisher struct {
	XPubOptions
	socket  *Socket
	inbox   *inbox    // for what subscribers send, nil for a Pub
	unheard sync.Once // to log that a notification was dropped
	opened  gate      // when a send that would have blocked should be tried again

	requested topics.Table[*Peer] // what the peers asked for
	granted   topics.Table[*Peer] // with Manual, what they get
	all       map[*Peer]struct{}  // with InvertMatching; guarded by mu

	// mu is held over a change and its notification, so that the application sees changes in order,
	// and over a NoDrop send, so that nothing takes the room between the check and its use.
	mu sync.Mutex
}

// command takes a command of a subscriber.
func (c *publisher) command(p *Peer, name, data []byte) error {
	if on, ok := wire.Subscription(name); ok {
		return c.subscribe(p, data, on, Message{})
	}
	return nil
}

// told is a peer's Value: how many of its subscriptions were passed on and not cancelled. Only the
// peer's read goroutine uses it.
type told struct{ n int }

// matching returns the subscriptions that are in effect.
func (c *publisher) matching() *topics.Root[*Peer] {
	if c.Manual {
		return c.granted.Root()
	}
	return c.requested.Root()
}

func (c *publisher) attach(p *Peer) {
	p.Value = new(told)
	if c.NoDrop {
		p.outbox.onRoom = c.opened.open
	}
	if c.socket.cfg.InvertMatching {
		c.mu.Lock()
		if c.all == nil {
			c.all = make(map[*Peer]struct{})
		}
		c.all[p] = struct{}{}
		c.mu.Unlock()
	}
	if len(c.Welcome.wire) > 0 {
		p.OfferMessage(c.Welcome)
	}
}

// subscribe acts on a subscription or its cancellation. within, unless it is empty, is the message
// of which it was the last part; the application gets that in place of the notification.
func (c *publisher) subscribe(p *Peer, topic []byte, on bool, within Message) error {
	fresh := on && !c.requested.Has(p, topic)
	if fresh {
		if err := p.CheckTopic(topic, c.requested.Count(p)); err != nil {
			return err
		}
	}
	told := p.Value.(*told)
	each := c.Verbose || c.Verboser || c.Manual // pass subscriptions on that change nothing, too
	if limit := p.socket.cfg.MaxSubscriptions; on && each && told.n >= limit {
		// When the peer goes, a cancellation of each has to be passed on.
		return wire.Errorf(wire.TooManySubscriptions,
			"more than %d subscriptions, with those to the same topic", limit)
	}
	if fresh {
		p.memory.Add(topics.Cost(topic))
	}
	c.mu.Lock()
	tell := false
	if on {
		told.n++
		ch := c.requested.Subscribe(p, topic)
		tell = ch.First || each
	} else {
		ch := c.requested.Cancel(p, topic)
		// A peer that cancels gets nothing more, so a NoDrop send need not wait for it.
		defer c.opened.open()
		if ch.Counted {
			told.n--
			if ch.Count == 0 {
				p.memory.Release(topics.Cost(topic))
			}
		}
		tell = ch.Last || ch.Counted && (c.Verboser || c.Manual || c.Verbose && !ch.Held)
	}
	if len(within.wire) == 0 {
		if tell {
			c.notify(p, topic, on)
		}
		c.mu.Unlock()
		return nil
	}
	c.pass(p, within)
	c.mu.Unlock()
	if c.inbox != nil {
		c.inbox.waitRoom(&p.inPipe)
	}
	return nil
}

// notify queues a notification of a subscription for the application. Notifications do not stop the
// reading from p, since an application that only publishes never receives them; beyond maxNotes
// they are dropped and counted. Caller holds the lock.
func (c *publisher) notify(p *Peer, topic []byte, on bool) {
	if c.inbox == nil || c.inbox.notify(&p.inPipe,
		countedBatchOf(notification(p, topic, on), p.socket.memory)) {
		return
	}
	p.Drop(DropFull, 1)
	c.unheard.Do(func() {
		p.socket.log.Warn("subscriptions are dropped before the application sees them, because it "+
			"does not receive", "waiting", maxNotes)
	})
}

// pass queues a message for the application. Caller holds the lock.
func (c *publisher) pass(p *Peer, m Message) {
	if c.inbox != nil && len(m.wire) > 0 {
		c.inbox.force(&p.inPipe, countedBatchOf(m, p.socket.memory))
	}
}

// notification returns a subscription in the form in which the application gets it.
func notification(p *Peer, topic []byte, on bool) Message {
	return Message{wire: wire.AppendSubscription(nil, true, on, topic), peer: p}
}

func (c *publisher) receive(p *Peer, b *Batch) error {
	return b.upstream(c.OnlyFirstSubscribe, func(u Upstream) error {
		// The application gets the message after the end of the batch.
		u.Message.wire = slices.Clone(u.Message.wire)
		if u.Subscription {
			return c.subscribe(p, u.Topic, u.On, u.Message)
		}
		if c.inbox != nil {
			c.mu.Lock()
			c.pass(p, u.Message)
			c.mu.Unlock()
			c.inbox.waitRoom(&p.inPipe)
		}
		return nil
	})
}

// detach removes the subscriptions of p and queues notifications of that.
func (c *publisher) detach(p *Peer) {
	c.mu.Lock()
	c.granted.Remove(p)
	delete(c.all, p)
	for _, r := range c.requested.Remove(p) {
		p.memory.Release(topics.Cost(r.Topic))
		n := 0
		switch {
		case c.Verboser || c.Manual:
			n = r.Count
		case r.Last:
			n = 1
		}
		for range n {
			c.notify(p, []byte(r.Topic), false)
		}
	}
	c.mu.Unlock()
	c.opened.open()
}

func (c *publisher) grant(p *Peer, topic []byte, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-p.done:
		return // detach has removed the peer, or will
	default:
	}
	if on {
		c.granted.Subscribe(p, topic)
	} else {
		c.granted.Cancel(p, topic)
		c.opened.open()
	}
}

// room implements distributor.
func (c *publisher) room() *gate { return &c.opened }

// trySend implements distributor.
func (c *publisher) trySend(m Message) error {
	topic, _ := cutPart(m.wire)
	offer := func(p *Peer) int {
		if p.OfferMessage(m) {
			return 1
		}
		return 0
	}
	if len(m.wire) >= referSize { // all share its memory, which counts once
		b := countedBatchOf(m, c.socket.memory)
		defer b.Release()
		offer = func(p *Peer) int { return p.Offer(b, []Run{{0, 1}}) }
	}
	return c.distribute(topic, len(m.wire), 1, offer)
}

// trySendBatch implements distributor. Adjacent messages of one topic are offered together, but
// with NoDrop one by one, since each needs room at all subscribers.
func (c *publisher) trySendBatch(b *Batch, first int) (n int, err error) {
	for r := (Run{first, first}); r.From < b.Len(); r.From = r.To {
		topic := b.Topic(r.From)
		for r.To++; r.To < b.Len() && !c.NoDrop && bytes.Equal(b.Topic(r.To), topic); r.To++ {
		}
		err := c.distribute(topic, int(b.wireBytes(r.From, r.To)), r.To-r.From,
			func(p *Peer) int { return p.Offer(b, []Run{r}) })
		if err != nil {
			return r.From - first, err
		}
	}
	return b.Len() - first, nil
}

// distribute calls offer for every peer that subscribed topic, which returns how many of msgs
// messages the peer took; it drops the others. With NoDrop it calls offer for no peer unless all
// have room for size bytes.
func (c *publisher) distribute(topic []byte, size, msgs int, offer func(*Peer) int) error {
	if c.socket.closing.Load() {
		return ErrClosed
	}
	var few [16]*Peer
	invert := c.socket.cfg.InvertMatching
	if c.NoDrop || invert {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	peers := c.matching().Match(few[:0], topic)
	if invert {
		peers = c.others(peers)
	}
	if c.NoDrop {
		for _, p := range peers {
			if !p.outbox.awaitRoom(int64(size)) && !p.outbox.isClosed() {
				return ErrWouldBlock
			}
		}
	}
	for _, p := range peers {
		if took := offer(p); took < msgs {
			p.Drop(DropFull, msgs-took)
		}
	}
	return nil
}

// others returns the peers that are not among these. Caller holds the lock.
func (c *publisher) others(peers []*Peer) []*Peer {
	others := maps.Clone(c.all)
	for _, p := range peers {
		delete(others, p)
	}
	return slices.Collect(maps.Keys(others))
}
