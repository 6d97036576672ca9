package forwarder

import (
	"bytes"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
)

const (
	// maxRoutes bounds the topics that a router caches: they come from the peer.
	maxRoutes = 1024
	// maxRouteTopic is the size in bytes from which on a topic is not cached.
	maxRouteTopic = 256
)

// router turns the batches of one publisher into deliveries. Only the publisher's read goroutine
// uses it.
type router struct {
	table   *topics.Table[*subscriber]
	classes *classes
	publish []string // prefixes of the topics that the publisher may publish, nil for all

	// The cache of what was found in root. It is emptied when the subscriptions change.
	root   *topics.Root[*subscriber]
	routes map[string]*route // by topic
	bySub  map[*subscriber]*delivery
	found  []*subscriber // memory for Match

	// Of the present batch.
	deliveries []*delivery
	unmatched  int      // messages that nobody subscribed
	denied     int      // messages that the publisher may not publish
	example    []byte   // the topic of one of them
	counted    []*tally // those that count something

	tapping
	tallies map[*class]*tally
}

// route is where the messages of a topic go.
type route struct {
	deliveries []*delivery
	tally      *tally
	denied     []byte      // the topic if the publisher may not publish it, else nil
	tapped     bool        // the tap copies them
	copies     []*delivery // of the tap
}

// delivery is what one subscriber, or the tap's Take, gets of the present batch.
type delivery struct {
	sub  *subscriber // nil for Tap.Take
	copy bool        // it belongs to the tap
	runs []zmtp.Run
	left int // messages in runs

	// While the publisher waits.
	written  uint64        // bytes that the connection had taken at the last tick
	standing time.Duration // for how long it has taken none
	lags     bool          // the subscriber holds the publisher up
}

func newRouter(f *Forwarder) *router {
	return &router{
		table: &f.table, classes: f.classes, tapping: newTapping(f.tap),
		routes: make(map[string]*route), bySub: make(map[*subscriber]*delivery),
		tallies: make(map[*class]*tally),
	}
}

// split makes the deliveries of b, and counts the messages that nobody gets.
func (r *router) split(b *zmtp.Batch) {
	if root := r.table.Root(); r.renew() || root != r.root {
		r.root = root
		clear(r.routes)
		clear(r.bySub)
	}
	r.deliveries, r.denied, r.unmatched = r.deliveries[:0], 0, 0
	from := 0
	topic := b.Topic(0)
	to := r.route(topic)
	for i := 1; i <= b.Len(); i++ {
		next := to
		if i < b.Len() {
			t := b.Topic(i)
			if !bytes.Equal(t, topic) {
				topic, next = t, r.route(t)
			}
			if next == to {
				continue
			}
		}
		switch {
		case to.denied != nil:
			r.denied += i - from
			r.example = to.denied
		case len(to.deliveries) == 0:
			r.unmatched += i - from
		}
		r.count(to, b, from, i)
		for _, d := range to.deliveries {
			r.add(d, from, i)
		}
		for _, d := range to.copies {
			r.add(d, from, i)
		}
		from, to = i, next
	}
	r.tallied()
}

// add adds the messages [from, to) of the batch, which follow those that d has.
func (r *router) add(d *delivery, from, to int) {
	last := len(d.runs) - 1
	switch {
	case last < 0:
		if d.copy {
			r.copies = append(r.copies, d)
		} else {
			r.deliveries = append(r.deliveries, d)
		}
		fallthrough
	case d.runs[last].To != from:
		d.runs = append(d.runs, zmtp.Run{From: from, To: to})
	default:
		d.runs[last].To = to
	}
	d.left += to - from
}

// route returns the route of a topic.
func (r *router) route(topic []byte) *route {
	if to, ok := r.routes[string(topic)]; ok { // does not allocate
		return to
	}
	r.found = r.found[:0]
	var denied []byte
	if Allows(r.publish, topic) {
		r.found = r.root.Match(r.found, topic)
	} else {
		denied = append([]byte{}, topic...)
	}
	k := r.classes.of(topic)
	if r.tallies[k] == nil {
		r.tallies[k] = &tally{class: k}
	}
	to := &route{deliveries: make([]*delivery, len(r.found)), tally: r.tallies[k], denied: denied}
	for i, s := range r.found {
		to.deliveries[i] = r.delivery(s, false)
	}
	r.tapped(to, topic)
	if len(topic) >= maxRouteTopic {
		return to
	}
	if len(r.routes) >= maxRoutes {
		for t := range r.routes { // in random order
			delete(r.routes, t)
			break
		}
	}
	r.routes[string(topic)] = to
	return to
}

// delivery returns the delivery for a subscriber, of the tap if copy is set.
func (r *router) delivery(s *subscriber, copy bool) *delivery {
	d := r.bySub[s]
	if d == nil {
		d = &delivery{sub: s, copy: copy}
		r.bySub[s] = d
	}
	return d
}

// offer queues as many messages as fit, and reports whether all did. It does not block.
func (d *delivery) offer(b *zmtp.Batch) bool {
	if d.sub.local != nil {
		d.sub.local.offer(d, b)
		return true
	}
	d.advance(d.sub.peer.Offer(b, d.runs))
	return d.left == 0
}

// advance removes the first n messages.
func (d *delivery) advance(n int) {
	d.left -= n
	if d.left == 0 {
		d.runs = d.runs[:0]
		return
	}
	done := 0
	for n > 0 {
		run := &d.runs[done]
		if size := run.To - run.From; n >= size {
			n -= size
			done++
		} else {
			run.From += n
			n = 0
		}
	}
	d.runs = d.runs[:copy(d.runs, d.runs[done:])]
}
