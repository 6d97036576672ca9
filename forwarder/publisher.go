package forwarder

import (
	"slices"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
)

// publisher is a peer of the XSUB side. Only its read goroutine uses it.
type publisher struct {
	f         *Forwarder
	permit    permit
	router    *router
	node      atomic.Pointer[string] // its Zeek node id, nil until it is known; others read it
	waited    atomic.Int64           // for how many ns it was not read because of subscribers; others read it
	held      window                 // for how long it was held up by subscribers that took nothing
	uncharged time.Duration          // for how long it has waited with the present batch, as far as held does not include it
	blocked   []*lane                // of the present batch, those who did not take everything
}

// xsubPattern is the publishers' side of a Forwarder.
type xsubPattern Forwarder

// Attach implements zmtp.Pattern: it tells the publisher all topics there are, before any change to them.
func (x *xsubPattern) Attach(p *zmtp.Peer) error {
	f := (*Forwarder)(x)
	permit, err := f.permit(p)
	if err != nil {
		return err
	}
	pub := &publisher{f: f, permit: permit, router: newRouter(f)}
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

// Subscribe implements zmtp.Pattern. It is never called: publishers do not subscribe.
func (x *xsubPattern) Subscribe(*zmtp.Peer, []byte, bool) error { return nil }

// Receive implements zmtp.Pattern: it gives the messages of b to those who subscribed them.
func (x *xsubPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	pub := p.Value.(*publisher)
	if pub.node.Load() == nil {
		pub.learn(b.Message(0))
	}
	pub.router.split(b)
	pub.account(b.Len())
	if n := pub.router.denied; n > 0 {
		pub.f.denyMessages(p, pub.permit.denied, n, pub.router.example)
	}
	pub.blocked = pub.blocked[:0]
	for _, l := range pub.router.touched {
		if l.offer(b) {
			continue
		}
		if l.sub.loses() {
			pub.router.drop(l, b, l.sub.lossReason())
		} else {
			pub.blocked = append(pub.blocked, l)
		}
	}
	if pub.router.tap != nil {
		pub.router.copyAll(b)
	}
	if len(pub.blocked) > 0 {
		pub.overload(b)
	}
	return nil
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
	p.f.accounts.match(p.router.touched...)
}

// The parts of a Zeek event: topic, node id, format, body.
const (
	eventParts  = 4
	eventNode   = 1
	eventFormat = 2
)

// eventFormats are the formats of events, by which they are told from what others send.
var eventFormats = []string{"broker-bin-v1", "broker-json-v1"}

// learn takes the node id from a message if it is one of Zeek's.
func (p *publisher) learn(m zmtp.Message) {
	if m.NumParts() != eventParts || !slices.Contains(eventFormats, string(m.Part(eventFormat))) {
		return
	}
	if id := m.Part(eventNode); len(id) > 0 && len(id) <= maxNodeID {
		node := string(id)
		p.node.Store(&node)
	}
}
