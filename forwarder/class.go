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
	// maxClasses bounds the topic classes that are counted by themselves: topics come from peers.
	maxClasses = 256
	// maxClassName is the size in bytes up to which a topic is a class of its own.
	maxClassName = 128
	// OtherTopics is the class of the topics beyond that.
	OtherTopics = "other"
)

// normalizations is what Zeek's option Cluster::Telemetry::topic_normalizations does: all topics with the prefix are one class.
var normalizations = []struct{ prefix, class string }{
	{"zeek.cluster.nodeid.", "zeek.cluster.nodeid.__normalized__"},
	{"zeek/cluster/nodeid/", "zeek/cluster/nodeid/__normalized__"},
}

// knownClasses exist from the start, so that nobody can take their place with topics of his own.
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

// TopicStats are the counters of a topic class: a topic that was published, all topics of node ids together, or
// OtherTopics. Bytes are those of the parts.
type TopicStats struct {
	Messages, Bytes uint64     // from publishers
	Unmatched       uint64     // of these messages, those that nobody had subscribed
	Dropped         zmtp.Drops // messages that subscribers lost, counted for each
}

// class is TopicStats that all publishers add to.
type class struct {
	messages, bytes, unmatched atomic.Uint64
	dropped                    [len(zmtp.Drops{})]atomic.Uint64
}

func (k *class) stats() TopicStats {
	st := TopicStats{Messages: k.messages.Load(), Bytes: k.bytes.Load(), Unmatched: k.unmatched.Load()}
	for r := range k.dropped {
		st.Dropped[r] = k.dropped[r].Load()
	}
	return st
}

// classes are the topic classes. The zero value is not ready, see newClasses.
type classes struct {
	mu     sync.Mutex
	byName map[string]*class // guarded by mu; a class stays for ever, as a counter must not go back
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
		name = strings.ToValidUTF8(name, "\uFFFD") // a label has to be
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

// stats returns the counters of the classes of which there has been a message.
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

// tally is what one batch adds to a class. Only the publisher's read goroutine uses it: the class, which all publishers
// share, is touched once a batch.
type tally struct {
	class                      *class
	messages, bytes, unmatched int
}

// count adds the messages from up to but not including to, of the topics of one route.
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
	if len(to.lanes) == 0 && to.denied == nil {
		t.unmatched += end - from
	}
}

// tallied gives what was counted of the batch to the classes.
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

// drop gives up what the subscriber of l has not taken of b.
func (r *router) drop(l *lane, b *zmtp.Batch, reason zmtp.DropReason) {
	for _, run := range l.runs {
		for i := run.From; i < run.To; i++ {
			r.route(b.Topic(i)).tally.class.dropped[reason].Add(1)
		}
	}
	l.sub.f.accounts.refuse(l.sub, reason, l.left)
	l.advance(l.left)
}
