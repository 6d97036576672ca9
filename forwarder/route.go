package forwarder

import (
	"bytes"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
)

const (
	// maxRoutes bounds the topics that a router remembers: they come from the peer.
	maxRoutes = 1024
	// maxRouteTopic is the size in bytes from which on a topic is not remembered.
	maxRouteTopic = 256
)

// router turns the batches of one publisher into runs for each subscriber. Only the publisher's read goroutine uses it.
type router struct {
	table   *topics.Table[*subscriber]
	classes *classes
	publish []string // prefixes of the topics that the publisher may publish, nil for all

	// What was found in root. It is forgotten as soon as the subscriptions have changed.
	root   *topics.Root[*subscriber]
	routes map[string]*route // by topic
	lanes  map[*subscriber]*lane
	found  []*subscriber // memory for Match

	touched   []*lane // of the present batch, those who get something
	unmatched int     // of the present batch, messages that nobody subscribed
	denied    int     // of the present batch, messages that it may not publish
	example   []byte  // the topic of one of them

	tapping // who gets a copy

	tallies map[*class]*tally
	counted []*tally // of the present batch, those that count something
}

// route is where the messages of a topic go.
type route struct {
	lanes  []*lane
	tally  *tally
	denied []byte  // if not nil: the topic, which the publisher may not publish
	tapped bool    // there is a copy of them
	copies []*lane // who gets it
}

// lane is what one subscriber, or who gets a copy, is to get of the present batch.
type lane struct {
	sub    *subscriber // nil for Tap.Take
	copies bool        // it is of the tap
	runs   []zmtp.Run
	left   int // messages in runs

	// While the publisher waits:
	written  uint64        // the bytes that the connection had taken at the last tick
	standing time.Duration // for how long it has taken none
	lags     bool          // it holds the publisher up
}

func newRouter(f *Forwarder) *router {
	return &router{
		table: &f.table, classes: f.classes, tapping: newTapping(f.tap),
		routes: make(map[string]*route), lanes: make(map[*subscriber]*lane), tallies: make(map[*class]*tally),
	}
}

// split fills the lanes of those who subscribed messages of b, and counts those that nobody did.
func (r *router) split(b *zmtp.Batch) {
	if root := r.table.Root(); r.renew() || root != r.root {
		r.root = root
		clear(r.routes)
		clear(r.lanes)
	}
	r.touched, r.denied, r.unmatched = r.touched[:0], 0, 0
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
		case len(to.lanes) == 0:
			r.unmatched += i - from
		}
		r.count(to, b, from, i)
		for _, l := range to.lanes {
			r.add(l, from, i)
		}
		for _, l := range to.copies {
			r.add(l, from, i)
		}
		from, to = i, next
	}
	r.tallied()
}

// add gives l the messages of the batch from up to but not including to, which follow those that it has.
func (r *router) add(l *lane, from, to int) {
	last := len(l.runs) - 1
	switch {
	case last < 0:
		if l.copies {
			r.copies = append(r.copies, l)
		} else {
			r.touched = append(r.touched, l)
		}
		fallthrough
	case l.runs[last].To != from:
		l.runs = append(l.runs, zmtp.Run{From: from, To: to})
	default:
		l.runs[last].To = to
	}
	l.left += to - from
}

// route returns where messages of this topic go.
func (r *router) route(topic []byte) *route {
	if to, ok := r.routes[string(topic)]; ok { // does not allocate
		return to
	}
	r.found = r.found[:0]
	var denied []byte
	if allows(r.publish, topic) {
		r.found = r.root.Match(r.found, topic)
	} else {
		denied = append([]byte{}, topic...)
	}
	k := r.classes.of(topic)
	if r.tallies[k] == nil {
		r.tallies[k] = &tally{class: k}
	}
	to := &route{lanes: make([]*lane, len(r.found)), tally: r.tallies[k], denied: denied}
	for i, s := range r.found {
		to.lanes[i] = r.lane(s, false)
	}
	r.tapped(to, topic)
	if len(topic) >= maxRouteTopic {
		return to
	}
	if len(r.routes) >= maxRoutes {
		for t := range r.routes { // in a random order
			delete(r.routes, t)
			break
		}
	}
	r.routes[string(topic)] = to
	return to
}

// lane returns the lane of a subscriber; copies says that it is one of the tap.
func (r *router) lane(s *subscriber, copies bool) *lane {
	l := r.lanes[s]
	if l == nil {
		l = &lane{sub: s, copies: copies}
		r.lanes[s] = l
	}
	return l
}

// offer gives the subscriber as much as it takes and reports whether that was all.
func (l *lane) offer(b *zmtp.Batch) bool {
	l.advance(l.sub.peer.Offer(b, l.runs))
	return l.left == 0
}

// advance takes the first n messages off the lane.
func (l *lane) advance(n int) {
	l.left -= n
	if l.left == 0 {
		l.runs = l.runs[:0]
		return
	}
	done := 0
	for n > 0 {
		run := &l.runs[done]
		if size := run.To - run.From; n >= size {
			n -= size
			done++
		} else {
			run.From += n
			n = 0
		}
	}
	l.runs = l.runs[:copy(l.runs, l.runs[done:])]
}
