package forwarder

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// subscriber is a peer of the XPUB socket, or of the tap's PUB socket, or a Local.
type subscriber struct {
	f      *Forwarder
	peer   *zmtp.Peer // nil for a Local
	local  *Local     // else nil
	permit permit
	log    *slog.Logger           // with the attributes peer and client
	node   atomic.Pointer[string] // Zeek node id, nil until it is known

	// See pace. Only its read goroutine uses them.
	told  int // bytes that publishers were told on its behalf since the last check
	crowd int // number of subscribers then

	bytes atomic.Int64 // of its topics, each with frameOverhead; its read goroutine changes it

	ledger   ledger
	blocked  atomic.Int64 // ns for which publishers have waited for it
	expelled atomic.Bool  // it is being disconnected
	slow     atomic.Int64 // since when it is slow, in ns since 1970, else 0

	mu        sync.Mutex
	pace      pace          // guarded by mu
	held      window        // for how long it held publishers up; guarded by mu
	charged   time.Time     // until when held is complete; guarded by mu
	trial     time.Duration // see nextTrial; guarded by mu
	slowUntil time.Time     // when it last caught up; guarded by mu
}

// xpubPattern is the subscribers' side of a Forwarder.
type xpubPattern Forwarder

// Attach implements zmtp.Pattern. Once Shutdown has begun, it admits no subscriber.
func (x *xpubPattern) Attach(p *zmtp.Peer) error {
	f := (*Forwarder)(x)
	s, err := f.newSubscriber(p)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribers[s] = struct{}{}
	return nil
}

// newSubscriber makes p a subscriber, unless Config.Permit refuses it or Shutdown has begun.
func (f *Forwarder) newSubscriber(p *zmtp.Peer) (*subscriber, error) {
	if f.closing.Load() {
		return nil, zmtp.ErrClosed
	}
	permit, err := f.permit(p)
	if err != nil {
		return nil, err
	}
	s := &subscriber{f: f, peer: p, permit: permit, log: f.log.With("peer", p.Remote())}
	if user := p.UserID(); user != "" {
		s.log = s.log.With("client", user)
	}
	p.Value = s
	return s, nil
}

// Detach implements zmtp.Pattern. It cancels the subscriptions of the subscriber, which is how Zeek
// nodes notice that a node is gone.
func (x *xpubPattern) Detach(p *zmtp.Peer, _ error) {
	f, s := (*Forwarder)(x), p.Value.(*subscriber)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subscribers, s)
	f.forget(s)
}

// Command implements zmtp.CommandHandler.
func (x *xpubPattern) Command(p *zmtp.Peer, name, data []byte) error {
	if on, ok := wire.Subscription(name); ok {
		return (*Forwarder)(x).subscribe(p.Value.(*subscriber), data, on)
	}
	return nil
}

// Receive implements zmtp.Pattern, for subscriptions in the form of messages and for messages to
// the publishers.
func (x *xpubPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	f, s := (*Forwarder)(x), p.Value.(*subscriber)
	return b.Upstream(func(u zmtp.Upstream) error {
		// A limit on messages applies to the rest, but not to the subscription itself.
		if m := u.Rest(); len(m.Wire()) > 0 {
			f.upstream.messages.Add(1)
			if Allows(s.permit.Publish, m.Part(0)) {
				f.sendUp(m)
			} else {
				f.upstream.denied.Add(1)
				f.denyMessages(p, s.permit.denied, 1, m.Part(0))
			}
		}
		if u.Subscription {
			return f.subscribe(s, u.Topic, u.On)
		}
		return nil
	})
}

// maxTopicBytes bounds the topics of one subscriber together, each with frameOverhead: the broker
// and all publishers keep them. For the bound on all subscribers together see bound.
const maxTopicBytes = 16 << 20

// subscribe acts on a SUBSCRIBE, or on a CANCEL if on is false. A CANCEL of a topic that s has not
// subscribed changes nothing, nor does a SUBSCRIBE that is not permitted. It may block, see pace.
func (f *Forwarder) subscribe(s *subscriber, topic []byte, on bool) error {
	if on {
		if ok, err := s.may(&f.table, topic); !ok {
			return err
		}
	}
	f.up.add(1, 1, 1+len(topic))
	if f.change(s, topic, on) {
		f.pace(s, len(topic))
	}
	return nil
}

// may reports whether s may subscribe a topic. table has its subscriptions. An error closes the
// connection. Only the read goroutine of s calls it.
func (s *subscriber) may(table *topics.Table[*subscriber], topic []byte) (bool, error) {
	if !Allows(s.permit.Subscribe, topic) {
		s.f.denySubscription(s.peer, s.permit.denied, topic)
		return false, nil
	}
	if table.Has(s, topic) {
		return true, nil
	}
	if err := s.peer.CheckTopic(topic, table.Count(s)); err != nil {
		return false, err
	}
	if s.bytes.Add(int64(len(topic)+frameOverhead)) > maxTopicBytes {
		return false, wire.Errorf(wire.TooManySubscriptions,
			"its topics take more than %d bytes", maxTopicBytes)
	}
	s.peer.Memory().Add(topics.Cost(topic))
	s.learn(topic)
	return true, nil
}

// cancelled accounts for a topic that s has given up, if that is what the CANCEL did. Only the read
// goroutine of s calls it.
func (s *subscriber) cancelled(topic []byte, c topics.Change) {
	if c.Counted && c.Count == 0 {
		s.bytes.Add(-int64(len(topic) + frameOverhead))
		s.topicMemory(-topics.Cost(topic))
	}
}

// change updates the subscriptions and reports whether the publishers were told.
func (f *Forwarder) change(s *subscriber, topic []byte, on bool) (told bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.crowd = len(f.subscribers)
	if on {
		first := f.table.Subscribe(s, topic).First
		f.tell(topic, true)
		if first {
			f.topicBytes += int64(len(topic) + frameOverhead)
			f.bound()
		}
		return true
	}
	c := f.table.Cancel(s, topic)
	s.cancelled(topic, c)
	if c.Last {
		f.topicBytes -= int64(len(topic) + frameOverhead)
		f.tell(topic, false)
	}
	return c.Last
}

// tell sends a subscription or its cancellation to all publishers. The caller holds mu.
func (f *Forwarder) tell(topic []byte, on bool) {
	for p := range f.publishers {
		p.SendSubscription(topic, on)
	}
}

// sendUp offers m to every publisher. It drops and counts what does not fit.
func (f *Forwarder) sendUp(m zmtp.Message) {
	f.up.add(1, m.NumParts(), m.Size())
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.publishers) == 0 {
		f.upstream.unmatched.Add(1)
		return
	}
	f.upstream.routed.Add(1)
	for p := range f.publishers {
		if !p.OfferMessage(m) {
			p.Drop(zmtp.DropFull, 1)
		}
	}
}

// nodeTopic and a final dot enclose the node id in the topic that each Zeek node subscribes for
// itself. See Cluster::nodeid_topic in Zeek's scripts.
var nodeTopic = []byte("zeek.cluster.nodeid.")

// maxNodeID bounds a node id, in bytes. Its parts are two names and two numbers.
const maxNodeID = 512

// learn takes the node id from a topic that contains it. Only the read goroutine of s calls it.
func (s *subscriber) learn(topic []byte) {
	id, ok := bytes.CutPrefix(topic, nodeTopic)
	if !ok || s.node.Load() != nil {
		return
	}
	if id, ok = bytes.CutSuffix(id, []byte(".")); ok && len(id) > 0 && len(id) <= maxNodeID {
		node := string(slices.Clone(id))
		s.node.Store(&node)
	}
}

// nodeID returns the Zeek node id, empty if it is not known.
func (s *subscriber) nodeID() string {
	if node := s.node.Load(); node != nil {
		return *node
	}
	return ""
}
