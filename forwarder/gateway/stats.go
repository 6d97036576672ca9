package gateway

import (
	"strings"
	"sync"
	"sync/atomic"

	"zmtpd/forwarder"
)

// Stats are the counters of a Gateway since it was made, and its present state.
type Stats struct {
	Connections int    // present ones, including those in a handshake
	Clients     int    // those that are WebSocket clients
	Topics      int    // distinct topics that clients subscribe
	Taken       uint64 // messages that the broker gave to the gateway
	Backlog     int64  // bytes of those that were not given to the clients yet
	// Matched counts events for clients, once for each client that has subscribed them. They are
	// written (ByClient.Out), dropped for QueueFull or Closing, or they wait:
	//
	//	Matched = Out + Dropped + Queued
	//
	// While an event is being written, it is missing on the right.
	Matched     uint64
	Queued      int // events that wait for clients, and answers to them
	QueuedBytes int64
	ByClient    []ClientStats
	// ByTopic counts events by topic class, see [forwarder.TopicClass].
	ByTopic map[string]TopicStats
	// Refused counts connections, and messages from clients.
	Refused map[Reason]uint64
	// Dropped counts events that clients did not get, once for each client. Backlog counts events
	// that the gateway did not take, whoever they were for.
	Dropped map[Reason]uint64
}

// ClientStats are the counters of all connections of one client with one application.
type ClientStats struct {
	Client, Application string
	Present             int    // connections now
	Connections         uint64 // ever
	In, Out             Count  // messages from the client; events that were written to it
	Dropped             uint64 // events for it
	Throttled           uint64 // messages from it that waited for the rate limit
}

// Count is a number of messages and of their bytes.
type Count struct{ Messages, Bytes uint64 }

// TopicStats are the counters of a topic class.
type TopicStats struct {
	In      uint64 // events that clients published
	Out     uint64 // events that were written to clients, counted for each client
	Dropped uint64 // events that clients did not get, counted for each client
}

// counters count for ClientStats. Several goroutines add to them.
type counters struct {
	client, app        string
	present            atomic.Int64
	connections        atomic.Uint64
	in, inBytes        atomic.Uint64
	out, outBytes      atomic.Uint64
	dropped, throttled atomic.Uint64
}

// class counts for TopicStats.
type class struct{ in, out, dropped atomic.Uint64 }

const (
	// maxCounters bounds the clients and applications that are counted apart: clients choose the
	// names of applications.
	maxCounters = 256
	// maxClasses bounds the topic classes.
	maxClasses = 256
	// maxKnownTopics bounds the topics whose classes are cached.
	maxKnownTopics = 4096
)

// accounts are the counters of a Gateway, made by newAccounts.
type accounts struct {
	mu       sync.Mutex
	byClient map[[2]string]*counters // none is removed: counters must not go back
	classes  map[string]*class       // likewise
	topics   map[string]*class       // a cache
}

func newAccounts() *accounts {
	a := &accounts{byClient: map[[2]string]*counters{}, classes: map[string]*class{},
		topics: map[string]*class{}}
	a.classes[forwarder.OtherTopics] = new(class)
	return a
}

// of returns the counters of a client with an application.
func (a *accounts) of(client, app string) *counters {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]string{client, app}
	if _, known := a.byClient[key]; !known && len(a.byClient) >= maxCounters-1 {
		key = [2]string{"other", "other"}
	}
	c := a.byClient[key]
	if c == nil {
		c = &counters{client: key[0], app: key[1]}
		a.byClient[key] = c
	}
	return c
}

// class returns the class of a topic.
func (a *accounts) class(topic []byte) *class {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.topics[string(topic)]; k != nil { // does not allocate
		return k
	}
	name := strings.ToValidUTF8(forwarder.TopicClass(topic), "\uFFFD")
	k := a.classes[name]
	if k == nil {
		if len(a.classes) >= maxClasses {
			k = a.classes[forwarder.OtherTopics]
		} else {
			k = new(class)
			a.classes[name] = k
		}
	}
	if len(a.topics) >= maxKnownTopics {
		clear(a.topics)
	}
	if len(topic) <= maxTopic {
		a.topics[string(topic)] = k
	}
	return k
}

// Stats returns a snapshot of the counters.
func (g *Gateway) Stats() Stats {
	st := Stats{Topics: g.table.Len(), Taken: g.local.Taken(), Matched: g.matched.Load(),
		Refused: map[Reason]uint64{}, Dropped: map[Reason]uint64{},
		ByTopic: map[string]TopicStats{}}
	for r := range numReasons {
		if n := g.refused[r].Load(); n > 0 {
			st.Refused[r] = n
		}
		if n := g.dropped[r].Load(); n > 0 {
			st.Dropped[r] = n
		}
	}
	g.in.mu.Lock()
	st.Backlog = g.in.bytes
	g.in.mu.Unlock()
	g.mu.Lock()
	st.Connections, st.Clients = g.connections, len(g.clients)
	g.mu.Unlock()
	for _, c := range g.all() {
		n, bytes, _ := c.out.length()
		st.Queued += n
		st.QueuedBytes += bytes
	}
	a := g.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.byClient {
		st.ByClient = append(st.ByClient, ClientStats{c.client, c.app, int(c.present.Load()),
			c.connections.Load(), Count{c.in.Load(), c.inBytes.Load()},
			Count{c.out.Load(), c.outBytes.Load()}, c.dropped.Load(), c.throttled.Load()})
	}
	for name, k := range a.classes {
		if one := (TopicStats{k.in.Load(), k.out.Load(), k.dropped.Load()}); one != (TopicStats{}) {
			st.ByTopic[name] = one
		}
	}
	return st
}
