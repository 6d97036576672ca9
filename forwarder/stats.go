package forwarder

import (
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
)

// Stats are the counters of a Forwarder since it was made, and what it has to do with at present.
type Stats struct {
	// Frontend is the side of the publishers, Backend that of the subscribers, counted as libzmq's proxy does: each
	// message once for where it came from and once for where it went, however many peers got it, and a subscription
	// or its cancellation as a message of one part, a byte and the topic, in whatever form it came. The cancellations
	// of a subscriber that is gone are among them. Zeek's metrics zeek_cluster_zeromq_proxy_* are the Parts and Bytes
	// of these.
	Frontend, Backend Side
	// XSub and XPub are the counters of the two sockets; they count each message for each peer that it went to. The
	// messages that subscribers lost are XPub.Dropped.
	XSub, XPub zmtp.Stats
	// Received and Upstream are what became of the messages from publishers and subscribers. Account is what became of
	// those that were meant for subscribers, also for those that are gone. See CheckAccounts.
	Received Received
	Upstream Upstream
	Account  Account
	// Denied is what clients were not allowed to do, by user id, of all that have or had a connection and may not do
	// everything.
	Denied map[string]Denied
	// Topics is the number of distinct topics that are subscribed.
	Topics int
	// ByTopic has the classes of topics that were published.
	ByTopic     map[string]TopicStats
	Publishers  []PublisherStats  // in no order
	Subscribers []SubscriberStats // in no order
	Tap         *TapStats         // nil if there is none
}

// Side is what went over one side of the Forwarder.
type Side struct{ In, Out zmtp.Traffic }

// PublisherStats are the counters of one publisher.
type PublisherStats struct {
	zmtp.PeerStats
	// NodeID is the Zeek node id in the events that it publishes, empty if there were none.
	NodeID string
	// Blocked is for how long it was not read because subscribers had to be waited for.
	Blocked time.Duration
}

// SubscriberStats are the counters of one subscriber.
type SubscriberStats struct {
	zmtp.PeerStats
	// NodeID is the Zeek node id in the subscription to zeek.cluster.nodeid.<id>., empty if there is none.
	NodeID string
	// Account is what became of the messages that were meant for it.
	Account Account
	// Topics is the number of distinct topics that it subscribed.
	Topics int
	// SlowSince is since when it has been slow, as Config.Overload says; zero if it is not.
	SlowSince time.Time
	// Blocked is for how long publishers have waited for it, the sum of all of them.
	Blocked time.Duration
}

// Stats returns a snapshot of the counters. It takes a few short locks for each peer, never one that routing waits for long.
func (f *Forwarder) Stats() Stats {
	st := Stats{
		XSub: f.xsub.Stats(), XPub: f.xpub.Stats(),
		Topics: f.table.Len(), ByTopic: f.classes.stats(),
	}
	// What was received is read last, so that its parts are never more than the whole.
	down, up := &f.received, &f.upstream
	st.Received = Received{Routed: down.routed.Load(), Unmatched: down.unmatched.Load(), Denied: down.denied.Load()}
	st.Received.Messages = down.messages.Load()
	st.Upstream = Upstream{Routed: up.routed.Load(), Unmatched: up.unmatched.Load(), Denied: up.denied.Load()}
	st.Upstream.Messages = up.messages.Load()
	fromPublishers, fromSubscribers := st.XSub.In, f.up.load()
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

// stats returns a snapshot of the counters; table has what s holds.
func (s *subscriber) stats(table *topics.Table[*subscriber]) SubscriberStats {
	p := s.peer.Stats()
	return SubscriberStats{
		PeerStats: p, Account: s.ledger.account(p.Out.Messages, uint64(p.Queued), p.DroppedBy), NodeID: s.nodeID(), Topics: table.Count(s), SlowSince: s.slowSince(),
		Blocked: time.Duration(s.blocked.Load()),
	}
}

// traffic is zmtp.Traffic that several goroutines add to.
type traffic struct{ messages, parts, bytes atomic.Uint64 }

func (t *traffic) add(messages, parts, bytes int) {
	t.messages.Add(uint64(messages))
	t.parts.Add(uint64(parts))
	t.bytes.Add(uint64(bytes))
}

func (t *traffic) load() zmtp.Traffic {
	return zmtp.Traffic{Messages: t.messages.Load(), Parts: t.parts.Load(), Bytes: t.bytes.Load()}
}
