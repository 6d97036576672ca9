package forwarder

import (
	"errors"
	"sync"
	"sync/atomic"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
)

// Local is a participant inside the process of a Forwarder: a subscriber without a connection, and
// any number of publishers. Its methods may be called from any goroutine.
type Local struct {
	f    *Forwarder
	sub  *subscriber // without a peer
	take func(b *zmtp.Batch, runs []zmtp.Run)
	done chan struct{} // closed by Leave

	subscribing sync.Mutex // held by Subscribe and Cancel: changes keep their order

	routers sync.Pool // of *router, for its publishers
	taken   atomic.Uint64
}

// errTopics is returned by [Local.Subscribe] when all topics together are too large.
var errTopics = errors.New("forwarder: the subscribed topics are too large together")

// Join adds a participant.
//
// take gets the messages whose topics it subscribes: the messages of b that are in runs, in order
// for each publisher, including those that the participant publishes itself. Several goroutines
// call take at the same time. take must not block and must not call methods of the Local. b is
// valid until take returns, see [zmtp.Batch.Keep].
func (f *Forwarder) Join(take func(b *zmtp.Batch, runs []zmtp.Run)) *Local {
	l := &Local{f: f, take: take, done: make(chan struct{})}
	l.sub = &subscriber{f: f, local: l, log: f.log}
	l.routers.New = func() any { return newRouter(f) }
	return l
}

// Leave cancels all subscriptions. It is called once, when no other method runs any more.
func (l *Local) Leave() {
	close(l.done)
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.f.forget(l.sub)
}

// Subscribe subscribes a topic prefix that the participant has not subscribed. When it returns,
// take gets every matching message that the Forwarder reads from then on. It blocks, for half a
// second at most, while publishers are behind in reading subscriptions. It returns an error if the
// topics of the participant, or of all subscribers together, would exceed what publishers can bear;
// the topic is then not subscribed.
func (l *Local) Subscribe(topic []byte) error {
	l.subscribing.Lock()
	defer l.subscribing.Unlock()
	n := int64(len(topic) + frameOverhead)
	if !l.f.hasRoomFor(n, l.sub.bytes.Load()) {
		return errTopics
	}
	l.sub.bytes.Add(n)
	l.change(topic, true)
	return nil
}

// Cancel takes Subscribe back.
func (l *Local) Cancel(topic []byte) {
	l.subscribing.Lock()
	defer l.subscribing.Unlock()
	l.change(topic, false)
}

func (l *Local) change(topic []byte, on bool) {
	l.f.up.add(1, 1, 1+len(topic))
	if l.f.change(l.sub, topic, on) {
		l.f.pace(l.sub, len(topic))
	}
}

// hasRoomFor reports whether a Local whose topics take own bytes may add n. All topics stay within
// their bound, see bound, and the topics of a Local within half of it: nobody is closed because of
// them.
func (f *Forwarder) hasRoomFor(n, own int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.backlogLimit() / topicShare
	return f.topicBytes+n <= limit && own+n <= limit/2
}

// LocalPublisher is a publisher without a connection. Its methods may be called from any goroutine,
// and wait for one another.
type LocalPublisher struct {
	local *Local
	mu    sync.Mutex
	// pub is guarded by mu. It has a router only while it publishes: the cache of a router is
	// large, and most publishers are idle.
	pub *publisher
}

// NewPublisher returns a publisher. Publishers of the same Local do not wait for one another. One
// that is not used any more needs no end.
func (l *Local) NewPublisher() *LocalPublisher {
	return &LocalPublisher{local: l, pub: newPublisher(l.f)}
}

// Publish offers the messages of b, of which there is at least one, to their subscribers. It blocks
// as the overload policy says. b remains the caller's, who should release it. After Shutdown of the
// Forwarder has begun, Publish returns [zmtp.ErrClosed] and the messages are not published.
func (p *LocalPublisher) Publish(b *zmtp.Batch) error { return p.publish(b, (*publisher).overload) }

// TryPublish is Publish that does not wait for subscribers: those with a full queue lose the
// messages, which is counted for them.
func (p *LocalPublisher) TryPublish(b *zmtp.Batch) error {
	return p.publish(b, (*publisher).dropBlocked)
}

func (p *LocalPublisher) publish(b *zmtp.Batch, blocked func(*publisher, *zmtp.Batch)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.local.f
	if f.closing.Load() {
		return zmtp.ErrClosed
	}
	parts, bytes := b.Counts(0, b.Len())
	f.fromLocals.add(b.Len(), parts, bytes)
	p.pub.router = p.local.routers.Get().(*router)
	p.pub.forward(b, blocked)
	p.local.routers.Put(p.pub.router)
	p.pub.router = nil
	return nil
}

// Wanted reports whether anybody subscribes a prefix of topic, other participants included.
func (f *Forwarder) Wanted(topic []byte) bool {
	return len(f.table.Root().Match(nil, topic)) > 0
}

// Taken returns the number of messages that take has got.
func (l *Local) Taken() uint64 { return l.taken.Load() }

// offer gives the messages of d to the participant.
func (l *Local) offer(d *delivery, b *zmtp.Batch) {
	l.taken.Add(uint64(d.left))
	l.take(b, d.runs)
	d.advance(d.left)
}

// ended is closed when s is gone.
func (s *subscriber) ended() <-chan struct{} {
	if s.local != nil {
		return s.local.done
	}
	return s.peer.Done()
}

// topicMemory accounts for n bytes of memory for the topics of s. A participant accounts for its
// topics itself.
func (s *subscriber) topicMemory(n int64) {
	if s.local == nil {
		s.peer.Memory().Add(n)
	}
}

// forget removes all subscriptions of s. The caller holds mu.
func (f *Forwarder) forget(s *subscriber) {
	for _, r := range f.table.Remove(s) {
		s.topicMemory(-topics.Cost(r.Topic))
		if r.Held {
			f.up.add(1, 1, 1+len(r.Topic))
		}
		if r.Last {
			f.topicBytes -= int64(len(r.Topic) + frameOverhead)
			f.tell([]byte(r.Topic), false)
		}
	}
}
