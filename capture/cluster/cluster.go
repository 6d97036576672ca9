package cluster

import (
	"cmp"
	"hash/maphash"
	"time"

	"zmtpd/capture"
	"zmtpd/zmtp/wire"
)

const (
	// maxNames bounds the nodes, topics, events, logs and sessions that are counted separately, and
	// maxName a name in bytes.
	maxNames = 10_000
	maxName  = 1 << 10
	// maxTopics bounds the subscriptions of all sessions that are kept. A message counts as lost
	// only to subscribers whose subscription is.
	maxTopics = 100_000
	// maxMembership bounds the hellos and ends of nodes that are kept.
	maxMembership = 100_000
)

// Options are the options of an Analyzer.
type Options struct {
	// MaxLatency is how long a message may take through the broker until it counts as lost. Default
	// 10 s.
	MaxLatency time.Duration
}

// Analyzer takes the events of a capture. It is not for concurrent use.
type Analyzer struct {
	opts Options
	seed maphash.Seed

	sessions map[uint64]*session
	ended    []SessionSummary
	skipped  uint64 // sessions that ended and are not in ended
	nodes    names
	topics   names
	events   names
	logs     names

	names      map[string]string // of nodes, by id, as they said hello
	membership []Membership
	known      map[pair]bool // who has got a hello of whom
	brokers    map[string]*broker
	subscribed int // entries of all session.topics
	load       load

	malformed uint64
	first     time.Time
	last      time.Time
}

// pair is a node and another one, by id.
type pair struct{ at, of string }

// session is what is known of a session.
type session struct {
	public *capture.Session
	node   string // id of the node that is the client
	client Counts
	server Counts
	topics map[string]time.Time // that the client subscribes to, and since when
	ended  bool
}

// New returns an Analyzer.
func New(opts Options) *Analyzer {
	opts.MaxLatency = cmp.Or(opts.MaxLatency, 10*time.Second)
	return &Analyzer{opts: opts, seed: maphash.MakeSeed(), sessions: map[uint64]*session{},
		nodes: names{}, topics: names{}, events: names{}, logs: names{},
		names: map[string]string{}, known: map[pair]bool{}, brokers: map[string]*broker{}}
}

// Observe takes an event and returns what it means to Zeek.
func (a *Analyzer) Observe(ev *capture.Event) Item {
	if a.first.IsZero() {
		a.first = ev.Time
	}
	a.last = ev.Time
	s := a.sessions[ev.Session.ID]
	if s == nil {
		s = &session{public: ev.Session, topics: map[string]time.Time{}}
		a.sessions[ev.Session.ID] = s
	}
	if ev.Kind == capture.Closed {
		a.end(s, ev)
		return Item{}
	}
	item := parse(ev)
	size := uint64(len(ev.Message.Wire()))
	if ev.Kind == capture.Message {
		counts := &s.server
		if ev.From == capture.Client {
			counts = &s.client
		}
		counts.add(ev.Time, size, 0)
	}
	switch item.Kind {
	case Malformed:
		a.malformed++
	case Log:
		records := uint64(item.Batch.NumRecords)
		a.logs.add(item.Batch.Path, ev.Time, size, records)
		a.nodes.add(item.Node, ev.Time, size, records)
		a.is(s, ev, item)
	case Event:
		// The broker's copies would count an event several times.
		if ev.From == capture.Client {
			a.topics.add(item.Topic, ev.Time, size, 0)
			a.events.add(item.Event.Name, ev.Time, size, 0)
			a.nodes.add(item.Node, ev.Time, size, 0)
			a.is(s, ev, item)
		} else {
			a.hello(s, ev, item)
		}
		a.follow(s, ev, item)
	case Subscribe:
		if ev.From == capture.Client && len(item.Topic) <= maxName {
			a.subscribe(s, item.Topic, ev.Time)
			if id, ok := nodeOfTopic(item.Topic); ok && s.node == "" {
				s.node = id
			}
		}
	case Unsubscribe:
		if ev.From == capture.Client {
			a.unsubscribe(s, string(item.Topic))
		} else {
			a.down(s, ev, item)
		}
	}
	return item
}

// is notes which node is the client of a session.
func (a *Analyzer) is(s *session, ev *capture.Event, item Item) {
	if s.node == "" && ev.From == capture.Client && len(item.Node) <= maxName {
		s.node = string(item.Node)
	}
}

// Name returns the name of the node with an id.
func (a *Analyzer) Name(id string) string {
	if name, ok := a.names[id]; ok {
		return name
	}
	return nameOfID(id)
}

// Node returns the id of the node that is the client of a session, or "".
func (a *Analyzer) Node(session uint64) string {
	if s := a.sessions[session]; s != nil {
		return s.node
	}
	return ""
}

// Membership is a line of Zeek's cluster.log.
type Membership struct {
	Time     time.Time
	Node     string // name of the node that saw it
	Of       string // name of the other node
	OfID     string
	Down     bool // it ended, else it said hello
	observer string
}

// hello takes a hello that a node gets. Zeek logs it unless it knows the other node already
// (base/frameworks/cluster/main.zeek).
func (a *Analyzer) hello(s *session, ev *capture.Event, item Item) {
	name, id, err := helloArgs(item.Event)
	if err != nil || s.node == "" || len(name) > maxName || len(id) > maxName {
		return
	}
	if len(a.names) < maxNames {
		a.names[id] = name
	}
	p := pair{s.node, id}
	if a.known[p] || len(a.membership) >= maxMembership {
		return
	}
	a.known[p] = true
	a.membership = append(a.membership, Membership{Time: ev.Time, Of: name, OfID: id,
		observer: s.node})
}

// down takes the end of the subscription to a node's own topic, which the broker passes on.
func (a *Analyzer) down(s *session, ev *capture.Event, item Item) {
	id, ok := nodeOfTopic(item.Topic)
	p := pair{s.node, id}
	if !ok || !a.known[p] || len(a.membership) >= maxMembership {
		return
	}
	delete(a.known, p)
	a.membership = append(a.membership, Membership{Time: ev.Time, OfID: id, Down: true,
		observer: s.node})
}

func (a *Analyzer) summarize(s *session, ev *capture.Event) SessionSummary {
	sum := SessionSummary{Session: *s.public, ClientSent: s.client, ServerSent: s.server}
	if s.node != "" {
		sum.Node = s.node
	}
	if ev != nil {
		sum.Closed, sum.Err = ev.Closed, ev.Err
	}
	return sum
}

// isIngress and isEgress report whether a session is one of publishers, or of subscribers, with a
// broker.
func isIngress(s *capture.Session) bool { return s.FromServer.Type == wire.XSUB }
func isEgress(s *capture.Session) bool  { return s.FromServer.Type == wire.XPUB }
