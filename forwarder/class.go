package forwarder

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"zmtpd/zmtp"
)

const (
	// maxClasses bounds the topic classes: topics come from peers.
	maxClasses = 256
	// maxClassName is the size in bytes up to which a topic can be a class of its own.
	maxClassName = 128
	// OtherTopics is the class of all topics beyond these bounds.
	OtherTopics = "other"
)

// normalizations are those of Zeek's Cluster::Telemetry::topic_normalizations: all topics with a
// prefix are one class.
var normalizations = []struct{ prefix, class string }{
	{"zeek.cluster.nodeid.", "zeek.cluster.nodeid.__normalized__"},
	{"zeek/cluster/nodeid/", "zeek/cluster/nodeid/__normalized__"},
}

// knownClasses exist from the start, so that a peer cannot use up their places with its own topics.
var knownClasses = []string{
	"zeek.cluster.manager", "zeek.cluster.logger", "zeek.cluster.proxy", "zeek.cluster.worker",
	"zeek.cluster.pool.worker", "zeek.cluster.pool.proxy", "zeek.cluster.pool.logger",
	"zeek.cluster.nodeid.__normalized__", OtherTopics,
}

// className returns the class of a topic.
func className(topic []byte) string {
	for _, n := range normalizations {
		if len(topic) >= len(n.prefix) && string(topic[:len(n.prefix)]) == n.prefix {
			return n.class
		}
	}
	if len(topic) > maxClassName {
		return OtherTopics
	}
	return string(topic)
}

// TopicClass returns the class in which a topic is counted, if there is room for it: the topic
// itself, one class for all node ids, or [OtherTopics] for one that is too long.
func TopicClass(topic []byte) string { return className(topic) }

// TopicStats are the counters of a topic class: a published topic, all node id topics together, or
// OtherTopics.
type TopicStats struct {
	Messages  uint64     // from publishers
	Bytes     uint64     // of their parts
	Unmatched uint64     // of these messages, those that nobody had subscribed
	Dropped   zmtp.Drops // messages that subscribers lost, counted for each subscriber
}

// class counts for TopicStats. All publishers add to it.
type class struct {
	messages, bytes, unmatched atomic.Uint64
	dropped                    [len(zmtp.Drops{})]atomic.Uint64
}

func (k *class) stats() TopicStats {
	st := TopicStats{
		Messages: k.messages.Load(), Bytes: k.bytes.Load(), Unmatched: k.unmatched.Load(),
	}
	for r := range k.dropped {
		st.Dropped[r] = k.dropped[r].Load()
	}
	return st
}

// classes are the topic classes, made by newClasses.
type classes struct {
	mu     sync.Mutex
	byName map[string]*class // guarded by mu; none is removed: counters must not go back
}

func newClasses() *classes {
	c := &classes{byName: make(map[string]*class)}
	for _, name := range knownClasses {
		c.byName[name] = new(class)
	}
	return c
}

// of returns the class of a topic.
func (c *classes) of(topic []byte) *class {
	name := className(topic)
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, "\uFFFD") // as a label of a metric has to be
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byName[name]
	if k == nil && len(c.byName) < maxClasses {
		k = new(class)
		c.byName[name] = k
	}
	if k == nil {
		k = c.byName[OtherTopics]
	}
	return k
}

// stats returns the counters of the classes that have had a message.
func (c *classes) stats() map[string]TopicStats {
	c.mu.Lock()
	all := maps.Clone(c.byName)
	c.mu.Unlock()
	st := make(map[string]TopicStats)
	for name, k := range all {
		if one := k.stats(); one.Messages > 0 {
			st[name] = one
		}
	}
	return st
}

// tally is what one batch adds to a class. Only the publisher's read goroutine uses it, and adds it
// to the shared class once a batch.
type tally struct {
	class                      *class
	messages, bytes, unmatched int
}

// count adds the messages [from, end) of the batch, which have one route.
func (r *router) count(to *route, b *zmtp.Batch, from, end int) {
	t := to.tally
	if t.messages == 0 {
		r.counted = append(r.counted, t)
	}
	t.messages += end - from
	parts, bytes := b.Counts(from, end)
	t.bytes += bytes
	if to.tapped {
		r.copied.messages += end - from
		r.copied.parts += parts
		r.copied.bytes += bytes
	}
	if len(to.deliveries) == 0 && to.denied == nil {
		t.unmatched += end - from
	}
}

// tallied adds the tallies of the batch to the classes.
func (r *router) tallied() {
	for _, t := range r.counted {
		t.class.messages.Add(uint64(t.messages))
		t.class.bytes.Add(uint64(t.bytes))
		if t.unmatched > 0 {
			t.class.unmatched.Add(uint64(t.unmatched))
		}
		t.messages, t.bytes, t.unmatched = 0, 0, 0
	}
	r.counted = r.counted[:0]
}

// drop gives up what is left of a delivery.
func (r *router) drop(d *delivery, b *zmtp.Batch, reason zmtp.DropReason) {
	for _, run := range d.runs {
		for i := run.From; i < run.To; i++ {
			r.route(b.Topic(i)).tally.class.dropped[reason].Add(1)
		}
	}
	d.sub.f.accounts.refuse(d.sub, reason, d.left)
	d.advance(d.left)
}
