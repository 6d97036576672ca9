package forwarder

import (
	"slices"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
)

// publisher is a peer of the XSUB socket, or a LocalPublisher. One goroutine at a time uses it,
// except where it says otherwise.
type publisher struct {
	f      *Forwarder
	permit permit
	router *router
	node   atomic.Pointer[string] // Zeek node id, nil until it is known; others read it
	waited atomic.Int64           // ns for which subscribers were waited for; others read it

	held      window            // for how long subscribers that lag held it up
	uncharged time.Duration     // of the present wait, what held does not include
	blocked   []*delivery       // of the present batch, what did not fit its queue
	rooms     []<-chan struct{} // memory for wait
	ticker    *time.Ticker      // of wait, stopped meanwhile
}

// newPublisher returns a publisher without a router.
func newPublisher(f *Forwarder) *publisher {
	p := &publisher{f: f, ticker: time.NewTicker(waitTick)}
	p.ticker.Stop()
	return p
}

// xsubPattern is the publishers' side of a Forwarder.
type xsubPattern Forwarder

// Attach implements zmtp.Pattern. The publisher gets all current topics before any change of them.
func (x *xsubPattern) Attach(p *zmtp.Peer) error {
	f := (*Forwarder)(x)
	permit, err := f.permit(p)
	if err != nil {
		return err
	}
	pub := newPublisher(f)
	pub.router = newRouter(f)
	pub.permit = permit
	pub.router.publish = permit.Publish
	p.Value = pub
	f.mu.Lock()
	defer f.mu.Unlock()
	for topic := range f.table.Topics() {
		p.SendSubscription([]byte(topic), true)
	}
	f.publishers[p] = struct{}{}
	return nil
}

// Detach implements zmtp.Pattern.
func (x *xsubPattern) Detach(p *zmtp.Peer, _ error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.publishers, p)
}

// Receive implements zmtp.Pattern: it offers the messages of b to the subscribers of their topics.
// It blocks as the overload policy says.
func (x *xsubPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	pub := p.Value.(*publisher)
	if pub.node.Load() == nil {
		pub.learn(b.Message(0))
	}
	pub.forward(b, (*publisher).overload)
	if n := pub.router.denied; n > 0 {
		pub.f.denyMessages(p, pub.permit.denied, n, pub.router.example)
	}
	return nil
}

// forward offers the messages of b to the subscribers of their topics. It calls blocked for those
// in p.blocked, if there are any: their queues are full.
func (p *publisher) forward(b *zmtp.Batch, blocked func(*publisher, *zmtp.Batch)) {
	p.router.split(b)
	p.account(b.Len())
	p.blocked = p.blocked[:0]
	for _, d := range p.router.deliveries {
		if d.offer(b) {
			continue
		}
		if d.sub.loses() {
			p.router.drop(d, b, d.sub.lossReason())
		} else {
			p.blocked = append(p.blocked, d)
		}
	}
	if p.router.tap != nil {
		p.router.copyAll(b)
	}
	if len(p.blocked) > 0 {
		blocked(p, b)
	}
}

// account counts the n messages of the batch that was split.
func (p *publisher) account(n int) {
	c := &p.f.received
	c.messages.Add(uint64(n))
	unmatched, denied := p.router.unmatched, p.router.denied
	if unmatched > 0 {
		c.unmatched.Add(uint64(unmatched))
	}
	if denied > 0 {
		c.denied.Add(uint64(denied))
	}
	if routed := n - unmatched - denied; routed > 0 {
		c.routed.Add(uint64(routed))
	}
	p.f.accounts.match(p.router.deliveries...)
}

// The parts of a Zeek event: topic, node id, format, body. See cluster/backend/zeromq/ZeroMQ.cc in
// Zeek.
const (
	eventParts  = 4
	eventNode   = 1
	eventFormat = 2
)

// eventFormats are the serialization formats of Zeek's events. They tell an event from other
// messages.
var eventFormats = []string{"broker-bin-v1", "broker-json-v1"}

// learn takes the node id from a message if it is an event.
func (p *publisher) learn(m zmtp.Message) {
	if m.NumParts() != eventParts || !slices.Contains(eventFormats, string(m.Part(eventFormat))) {
		return
	}
	if id := m.Part(eventNode); len(id) > 0 && len(id) <= maxNodeID {
		node := string(id)
		p.node.Store(&node)
	}
}
