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

// subscriber is a peer of the XPUB side, or one of the tap's PUB socket.
type subscriber struct {
	f      *Forwarder
	peer   *zmtp.Peer
	permit permit
	log    *slog.Logger           // with its address and the client's name
	node   atomic.Pointer[string] // its Zeek node id, nil until it is known

	told  int // bytes told to publishers on its behalf since it last looked after them; only its read goroutine uses it
	crowd int // how many subscribers there were when something was last told on its behalf; likewise

	bytes atomic.Int64 // of the topics that it subscribed, with frameOverhead; its read goroutine changes it

	ledger   ledger
	blocked  atomic.Int64 // for how many ns publishers have waited for it
	expelled atomic.Bool  // it is being disconnected
	slow     atomic.Int64 // since when it is slow, in ns since 1970; 0 if it is not

	mu        sync.Mutex
	pace      pace          // guarded by mu
	held      window        // for how long publishers were held up because it took nothing; guarded by mu
	charged   time.Time     // until when that is accounted for; guarded by mu
	trial     time.Duration // see sentence; guarded by mu
	slowUntil time.Time     // when it last caught up; guarded by mu
}

// xpubPattern is the subscribers' side of a Forwarder.
type xpubPattern Forwarder

// Attach implements zmtp.Pattern. While the publishers are still being read at the end, nobody else comes in.
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

// newSubscriber makes p a subscriber, unless it may not be one.
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

// Detach implements zmtp.Pattern: it cancels what the subscriber held, which is how Zeek nodes see that a node is gone.
func (x *xpubPattern) Detach(p *zmtp.Peer, _ error) {
	f, s := (*Forwarder)(x), p.Value.(*subscriber)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subscribers, s)
	for _, r := range f.table.Remove(s) {
		p.Memory().Release(topics.Cost(r.Topic))
		if r.Held {
			f.up.add(1, 1, 1+len(r.Topic))
		}
		if r.Last {
			f.topicBytes -= int64(len(r.Topic) + frameOverhead)
			f.tell([]byte(r.Topic), false)
		}
	}
}

// Subscribe implements zmtp.Pattern.
func (x *xpubPattern) Subscribe(p *zmtp.Peer, topic []byte, on bool) error {
	return (*Forwarder)(x).subscribe(p.Value.(*subscriber), topic, on)
}

// Receive implements zmtp.Pattern: subscriptions in the form of messages, and messages for the publishers.
func (x *xpubPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	f, s := (*Forwarder)(x), p.Value.(*subscriber)
	return b.Upstream(func(u zmtp.Upstream) error {
		// The subscription itself is passed on without regard to a limit.
		if m := u.Rest(); len(m.Wire()) > 0 {
			f.upstream.messages.Add(1)
			if allows(s.permit.Publish, m.Part(0)) {
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

// maxTopicBytes bounds all topics of one subscriber together, each with frameOverhead: what they take is kept here and by every
// publisher. What all subscribers may hold together see bound.
const maxTopicBytes = 16 << 20

// subscribe acts on a SUBSCRIBE, or on a CANCEL if on is false. A CANCEL of what s does not hold changes nothing, nor does
// a SUBSCRIBE of what it may not subscribe. It may block for what s has made the publishers wait for, see pace.
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

// may reports whether s may subscribe the topic; table has what it holds. With an error its connection is to be closed. Only the
// read goroutine of s calls it.
func (s *subscriber) may(table *topics.Table[*subscriber], topic []byte) (bool, error) {
	if !allows(s.permit.Subscribe, topic) {
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
		return false, wire.Errorf(wire.TooManySubscriptions, "topics of more than %d bytes", maxTopicBytes)
	}
	s.peer.Memory().Add(topics.Cost(topic))
	s.learn(topic)
	return true, nil
}

// cancelled takes the topic off what s holds, if that is what the CANCEL did. Only the read goroutine of s calls it.
func (s *subscriber) cancelled(topic []byte, c topics.Change) {
	if c.Counted && c.Count == 0 {
		s.bytes.Add(-int64(len(topic) + frameOverhead))
		s.peer.Memory().Release(topics.Cost(topic))
	}
}

// change changes the subscriptions and reports whether the publishers were told.
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

// tell sends a subscription or its cancellation to all publishers. Caller holds mu.
func (f *Forwarder) tell(topic []byte, on bool) {
	for p := range f.publishers {
		p.SendSubscription(topic, on)
	}
}

// sendUp offers m to every publisher; those who have no room do not get it.
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

// nodeTopic and the separator behind it enclose the node id in the topic that each Zeek node subscribes for itself.
var nodeTopic = []byte("zeek.cluster.nodeid.")

// maxNodeID bounds a node id, in bytes: its parts are two names and two numbers.
const maxNodeID = 512

// learn takes the node id from the topic that has it. Only the read goroutine of s calls it.
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

// nodeID returns the Zeek node id of s, empty if it is not known.
func (s *subscriber) nodeID() string {
	if node := s.node.Load(); node != nil {
		return *node
	}
	return ""
}
