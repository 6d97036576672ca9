package cluster

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"slices"
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
	// maxSamples bounds the latencies that are kept to find their quantiles.
	maxSamples = 1 << 16
	// settled is how old a subscription has to be for a message that it misses to count as lost:
	// the broker passes it on to publishers first.
	settled = 200 * time.Millisecond
)

// broker follows messages through one broker, which is known by its address.
type broker struct {
	pending map[uint64][]*passing // by hash
	queue   []*passing            // by time
	in, out uint64
	lost    map[uint64]uint64 // by session
	total   uint64            // of lost
	early   uint64            // messages out that were not seen in
	samples []time.Duration
	seen    uint64 // latencies
	max     time.Duration
}

// passing is a message on its way.
type passing struct {
	hash uint64
	at   time.Time
	to   []uint64 // sessions to which it has to come
	left map[uint64]bool
}

// broker returns the broker of a session.
func (a *Analyzer) broker(s *capture.Session, create bool) *broker {
	if !isIngress(s) && !isEgress(s) {
		return nil
	}
	key := s.Server.Addr().String()
	b := a.brokers[key]
	if b == nil && create && len(a.brokers) < maxBrokers {
		b = &broker{pending: map[uint64][]*passing{}, lost: map[uint64]uint64{}}
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
	a.awaited -= b.expire(ev.Time.Add(-a.opts.MaxLatency))
	hash := maphash.Bytes(a.seed, ev.Message.Wire())
	if out {
		b.out++
		a.awaited -= b.delivered(hash, s.public.ID, ev.Time)
		return
	}
	b.in++
	if len(b.queue) >= maxPending {
		a.awaited -= b.drop(b.queue[0], false)
	}
	p := &passing{hash: hash, at: ev.Time, left: map[uint64]bool{}}
	for id, other := range a.sessions {
		if isEgress(other.public) && other.public.Server.Addr() == s.public.Server.Addr() &&
			a.awaited < maxAwaited && other.wants(item.Topic, ev.Time) {
			p.left[id] = true
			a.awaited++
		}
	}
	b.pending[hash] = append(b.pending[hash], p)
	b.queue = append(b.queue, p)
}

// wants reports whether the client of a session has been subscribed to a topic for a while.
func (s *session) wants(topic []byte, now time.Time) bool {
	for prefix, since := range s.topics {
		if bytes.HasPrefix(topic, []byte(prefix)) && now.Sub(since) > settled {
			return true
		}
	}
	return false
}

// delivered takes a message out of the broker. Like expire, drop and forget it returns how many
// entries of passing.left are gone.
func (b *broker) delivered(hash, session uint64, now time.Time) (gone int) {
	for _, p := range b.pending[hash] {
		if slices.Contains(p.to, session) {
			continue // the same message was sent twice
		}
		p.to = append(p.to, session)
		before := len(p.left)
		delete(p.left, session)
		b.sample(now.Sub(p.at))
		return before - len(p.left)
	}
	b.early++
	return 0
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
func (b *broker) expire(before time.Time) (gone int) {
	for len(b.queue) > 0 && b.queue[0].at.Before(before) {
		gone += b.drop(b.queue[0], true)
	}
	return gone
}

// drop forgets the first message of the queue. Where it has not come out it is lost, if lost says
// so.
func (b *broker) drop(p *passing, lost bool) (gone int) {
	b.queue = b.queue[1:]
	list := slices.DeleteFunc(b.pending[p.hash], func(q *passing) bool { return q == p })
	if len(list) == 0 {
		delete(b.pending, p.hash)
	} else {
		b.pending[p.hash] = list
	}
	if !lost {
		return len(p.left)
	}
	for session := range p.left {
		if _, ok := b.lost[session]; ok || len(b.lost) < maxNames {
			b.lost[session]++
		}
		b.total++
	}
	return len(p.left)
}

// forget takes the end of a subscriber's session: nothing has to come to it any more.
func (b *broker) forget(session uint64) (gone int) {
	for _, p := range b.queue {
		before := len(p.left)
		delete(p.left, session)
		gone += before - len(p.left)
	}
	return gone
}

// quantile returns a quantile of the sorted latencies.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
