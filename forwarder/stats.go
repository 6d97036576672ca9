package forwarder

import (
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
)

// Stats are the counters of a Forwarder since it was made, and its present state.
type Stats struct {
	// Frontend is the side of the publishers, Backend that of the subscribers, counted as in
	// libzmq's proxy. A Local counts as if it were connected. Each message counts once where it
	// comes from and once where it goes, however many peers get it. A subscription or cancellation
	// counts as a message of one part, a byte and the topic, whatever its form, and so does each
	// cancellation on behalf of a subscriber that is gone. Zeek's metrics
	// zeek_cluster_zeromq_proxy_* are the Parts and Bytes of these.
	Frontend, Backend Side
	// XSub and XPub are the counters of the two sockets. They count a message for each peer that
	// gets it. XPub.Dropped are the messages that subscribers lost.
	XSub, XPub zmtp.Stats
	// Received and Upstream are what became of the messages from publishers and from subscribers.
	// Account is what became of those for subscribers, including subscribers that are gone. See
	// CheckAccounts.
	Received Received
	Upstream Upstream
	Account  Account
	// Denied is what clients were not allowed to do, by user id. It has every client that may not
	// do everything and has, or had, a connection.
	Denied map[string]Denied
	// Topics is the number of distinct topics that are subscribed.
	Topics int
	// ByTopic has the topic classes that were published, by name.
	ByTopic     map[string]TopicStats
	Publishers  []PublisherStats  // in no particular order
	Subscribers []SubscriberStats // likewise
	Tap         *TapStats         // nil if there is none
}

// Side is the traffic of one side of the Forwarder.
type Side struct{ In, Out zmtp.Traffic }

// PublisherStats are the counters of one publisher.
type PublisherStats struct {
	zmtp.PeerStats
	// NodeID is the Zeek node id in the events that it publishes, empty if there were none.
	NodeID string
	// Blocked is for how long it was not read because it waited for subscribers.
	Blocked time.Duration
}

// SubscriberStats are the counters of one subscriber.
type SubscriberStats struct {
	zmtp.PeerStats
	// NodeID is the Zeek node id, taken from the topic zeek.cluster.nodeid.<id>. that each node
	// subscribes; empty if there is none.
	NodeID string
	// Account is what became of the messages for it.
	Account Account
	// Topics is the number of distinct topics that it subscribed.
	Topics int
	// SlowSince is since when it has been slow, the zero time if it is not. A slow subscriber loses
	// messages, or holds publishers up, as Config.Overload says.
	SlowSince time.Time
	// Blocked is for how long publishers have waited for it, the sum over all of them.
	Blocked time.Duration
}

// Stats returns a snapshot of the counters. It takes short locks for each peer and does not block.
func (f *Forwarder) Stats() Stats {
	st := Stats{
		XSub: f.xsub.Stats(), XPub: f.xpub.Stats(),
		Topics: f.table.Len(), ByTopic: f.classes.stats(),
	}
	st.Received, st.Upstream = f.received.load(), Upstream(f.upstream.load())
	fromPublishers, fromSubscribers := st.XSub.In, f.up.load()
	fromPublishers.Add(f.fromLocals.load())
	st.Frontend = Side{In: fromPublishers, Out: fromSubscribers}
	st.Backend = Side{In: fromSubscribers, Out: fromPublishers}

	f.mu.Lock()
	st.Denied = make(map[string]Denied, len(f.denied))
	for user, d := range f.denied {
		st.Denied[user] = Denied{d.messages.Load(), d.subscriptions.Load()}
	}
	st.Publishers = make([]PublisherStats, 0, len(f.publishers))
	for p := range f.publishers {
		pub := p.Value.(*publisher)
		s := PublisherStats{PeerStats: p.Stats(), Blocked: time.Duration(pub.waited.Load())}
		if node := pub.node.Load(); node != nil {
			s.NodeID = *node
		}
		st.Publishers = append(st.Publishers, s)
	}
	all := make([]*subscriber, 0, len(f.subscribers))
	for s := range f.subscribers {
		all = append(all, s)
	}
	f.mu.Unlock()
	st.Subscribers = make([]SubscriberStats, len(all))
	for i, s := range all {
		st.Subscribers[i] = s.stats(&f.table)
	}
	st.Account = f.accounts.total(st.XPub, st.Subscribers)
	if f.tap != nil {
		st.Tap = f.tap.stats()
	}
	return st
}

// stats returns a snapshot of the counters. table has the subscriptions of s.
func (s *subscriber) stats(table *topics.Table[*subscriber]) SubscriberStats {
	p := s.peer.Stats()
	return SubscriberStats{
		PeerStats: p, NodeID: s.nodeID(),
		Account: s.ledger.account(p.Out.Messages, uint64(p.Queued), p.Dropped),
		Topics:  table.Count(s), SlowSince: s.slowSince(), Blocked: time.Duration(s.blocked.Load()),
	}
}

// traffic counts for zmtp.Traffic. Several goroutines add to it.
type traffic struct{ messages, parts, bytes atomic.Uint64 }

func (t *traffic) add(messages, parts, bytes int) {
	t.messages.Add(uint64(messages))
	t.parts.Add(uint64(parts))
	t.bytes.Add(uint64(bytes))
}

func (t *traffic) load() zmtp.Traffic {
	return zmtp.Traffic{Messages: t.messages.Load(), Parts: t.parts.Load(), Bytes: t.bytes.Load()}
}
