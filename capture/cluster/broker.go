package cluster

import (
	"hash/maphash"
	"math/rand/v2"
	"time"

	"zmtpd/capture"
)

const (
	// maxBrokers bounds the brokers, and maxPending the messages that are followed through one of
	// them at a time.
	maxBrokers = 64
	maxPending = 1 << 16
	// maxAwaited bounds the subscribers to which messages have to come, summed over all messages.
	// Beyond that a message counts as lost to nobody.
	maxAwaited = 1 << 20
	// maxMatches bounds the subscriptions that are looked at for one message. Beyond that it counts
	// as lost to nobody.
	maxMatches = 4096
	// maxDelivered bounds the subscribers to which pending messages have come, summed over all
	// messages. Beyond that the oldest messages are no longer followed.
	maxDelivered = 1 << 20
	// maxSamples bounds the latencies that are kept to find their quantiles.
	maxSamples = 1 << 16
	// settled is how old a subscription has to be for a message that it misses to count as lost:
	// the broker passes it on to publishers first.
	settled = 200 * time.Millisecond
)

// broker follows messages through one broker, which is known by its address. Each event costs an
// amount of work that does not depend on how much of the capture there was before.
type broker struct {
	load        *load
	subscribers subscribers
	pending     map[uint64]*copies // by hash
	queue       []*passing         // by time
	in, out     uint64
	lost        map[uint64]uint64 // by session
	total       uint64            // of lost
	early       uint64            // messages out that were not seen in
	samples     []time.Duration
	seen        uint64 // latencies
	max         time.Duration
}

// load is what all brokers keep and do together.
type load struct {
	awaited   int // entries of all passing.left
	delivered int // entries of all passing.to
	steps     int // of loops, for tests
}

// passing is a message on its way.
type passing struct {
	hash uint64
	at   time.Time
	left map[*session]struct{} // to which it has to come
	to   []*session            // to which it has come
}

// copies are the messages with the same bytes. They come out to each subscriber in the order in
// which they came in.
type copies struct {
	waiting []*passing
	dropped uint64              // messages before waiting
	taken   map[*session]uint64 // messages that came out to a session, dropped ones included
}

// next returns the message that comes out to s next, nil if there is none.
func (c *copies) next(s *session) *passing {
	if c == nil {
		return nil
	}
	n := max(c.taken[s], c.dropped) - c.dropped
	if n >= uint64(len(c.waiting)) {
		return nil
	}
	c.taken[s] = c.dropped + n + 1
	return c.waiting[n]
}

// broker returns the broker of a session.
func (a *Analyzer) broker(s *capture.Session, create bool) *broker {
	if !isIngress(s) && !isEgress(s) {
		return nil
	}
	key := s.Server.Addr().String()
	b := a.brokers[key]
	if b == nil && create && len(a.brokers) < maxBrokers {
		b = &broker{load: &a.load, pending: map[uint64]*copies{}, lost: map[uint64]uint64{},
			subscribers: subscribers{byTopic: map[string]map[*session]struct{}{}}}
		a.brokers[key] = b
	}
	return b
}

// follow takes an event on its way into a broker or out of it.
func (a *Analyzer) follow(s *session, ev *capture.Event, item Item) {
	in, out := ev.From == capture.Client && isIngress(s.public),
		ev.From == capture.Server && isEgress(s.public)
	if !in && !out {
		return
	}
	b := a.broker(s.public, true)
	if b == nil {
		return
	}
	b.expire(ev.Time.Add(-a.opts.MaxLatency))
	hash := maphash.Bytes(a.seed, ev.Message.Wire())
	if out {
		b.delivered(hash, s, ev.Time)
	} else {
		b.received(hash, item.Topic, ev.Time)
	}
}

// received takes a message into the broker.
func (b *broker) received(hash uint64, topic []byte, now time.Time) {
	b.in++
	if len(b.queue) >= maxPending {
		b.drop(false)
	}
	p := &passing{hash: hash, at: now, left: map[*session]struct{}{}}
	matches := 0
	for prefix, s := range b.subscribers.match(topic, b.load) {
		if matches++; matches > maxMatches || b.load.awaited >= maxAwaited {
			break
		}
		if _, known := p.left[s]; !known && now.Sub(s.topics[prefix]) > settled {
			p.left[s] = struct{}{}
			b.load.awaited++
		}
	}
	if b.pending[hash] == nil {
		b.pending[hash] = &copies{taken: map[*session]uint64{}}
	}
	b.pending[hash].waiting = append(b.pending[hash].waiting, p)
	b.queue = append(b.queue, p)
}

// delivered takes a message out of the broker to a subscriber.
func (b *broker) delivered(hash uint64, s *session, now time.Time) {
	b.out++
	if b.load.delivered >= maxDelivered && len(b.queue) > 0 {
		b.drop(false)
	}
	b.load.steps++
	p := b.pending[hash].next(s)
	if p == nil {
		b.early++
		return
	}
	p.to = append(p.to, s)
	b.load.delivered++
	if _, ok := p.left[s]; ok {
		delete(p.left, s)
		b.load.awaited--
	}
	b.sample(now.Sub(p.at))
}

// sample keeps a latency; of many, some at random.
func (b *broker) sample(d time.Duration) {
	b.seen++
	b.max = max(b.max, d)
	if len(b.samples) < maxSamples {
		b.samples = append(b.samples, d)
	} else if i := rand.Uint64N(b.seen); i < maxSamples {
		b.samples[i] = d
	}
}

// expire ends the messages that came in before a time.
func (b *broker) expire(before time.Time) {
	for len(b.queue) > 0 && b.queue[0].at.Before(before) {
		b.drop(true)
	}
}

// drop forgets the first message of the queue. Where it has not come out it is lost, if lost says
// so. Nothing is lost to a subscriber whose session has ended.
func (b *broker) drop(lost bool) {
	p := b.queue[0]
	b.queue[0], b.queue = nil, b.queue[1:]
	c := b.pending[p.hash] // p is its first message
	c.waiting[0], c.waiting = nil, c.waiting[1:]
	c.dropped++
	for _, s := range p.to {
		if c.taken[s] <= c.dropped {
			delete(c.taken, s)
		}
	}
	if len(c.waiting) == 0 {
		delete(b.pending, p.hash)
	}
	b.load.steps += 1 + len(p.to) + len(p.left)
	b.load.delivered -= len(p.to)
	b.load.awaited -= len(p.left)
	if !lost {
		return
	}
	for s := range p.left {
		if s.ended {
			continue
		}
		if _, ok := b.lost[s.public.ID]; ok || len(b.lost) < maxNames {
			b.lost[s.public.ID]++
		}
		b.total++
	}
}

// quantile returns a quantile of the sorted latencies.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
