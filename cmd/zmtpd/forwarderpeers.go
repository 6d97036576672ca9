package main

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// maxSlowPeers is the number of subscribers, the slowest ones, that have metrics of their own. It
// bounds the number of series.
const maxSlowPeers = 32

// The metrics of the slowest subscribers. A series exists while its peer is among them.
var (
	slowQueue = daemon.Gauge("zmtpd_forwarder_slow_subscriber_queue_messages",
		"Messages that wait for one of the slowest subscribers.", "peer", "node", "client")
	slowQueueBytes = daemon.Gauge("zmtpd_forwarder_slow_subscriber_queue_bytes",
		"Bytes that wait for one of the slowest subscribers.", "peer", "node", "client")
	slowBlocked = daemon.Gauge("zmtpd_forwarder_slow_subscriber_blocked_seconds",
		"Time for which publishers have waited for one of the slowest subscribers.", "peer",
		"node", "client")
	slowDropped = daemon.Gauge("zmtpd_forwarder_slow_subscriber_dropped_messages",
		"Messages lost by one of the slowest subscribers.", "peer", "node", "client", "reason")
	topicMessages = daemon.Counter("zmtpd_forwarder_topic_messages_total",
		"Messages published, by topic. The topics of all node ids count as one, as in Zeek; so do "+
			"the topics beyond the limit on series.", "topic")
	topicBytes = daemon.Counter("zmtpd_forwarder_topic_bytes_total",
		"Bytes of message parts published, by topic.", "topic")
	topicUnmatched = daemon.Counter("zmtpd_forwarder_topic_unmatched_messages_total",
		"Messages published without a subscriber, by topic.", "topic")
	topicDropped = daemon.Counter("zmtpd_forwarder_topic_dropped_messages_total",
		"Messages lost, counted for each subscriber, by topic.", "topic", "reason")
)

// lossReasons are the reasons for which a subscriber loses messages.
var lossReasons = []zmtp.DropReason{zmtp.DropFull, zmtp.DropConnectionLost, zmtp.DropClosed}

// slowestFirst orders subscribers: slow ones first, then those with the longest queues.
func slowestFirst(a, b forwarder.SubscriberStats) int {
	return cmp.Or(
		compareBool(!a.SlowSince.IsZero(), !b.SlowSince.IsZero()),
		-cmp.Compare(a.QueuedBytes, b.QueuedBytes), -cmp.Compare(a.Blocked, b.Blocked),
		-cmp.Compare(a.Dropped.Total(), b.Dropped.Total()), cmp.Compare(a.ID, b.ID))
}

// compareBool orders true before false.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// isSlow reports whether the pace of a subscriber has had an effect so far.
func isSlow(s *forwarder.SubscriberStats) bool {
	return s.Queued > 0 || s.Blocked > 0 || s.Dropped.Total() > 0 || !s.SlowSince.IsZero()
}

// collectSlow sends the metrics of the slowest subscribers.
func collectSlow(ch chan<- prometheus.Metric, subscribers []forwarder.SubscriberStats) {
	all := slices.Clone(subscribers)
	slices.SortFunc(all, slowestFirst)
	for i := range all[:min(len(all), maxSlowPeers)] {
		s := &all[i]
		if !isSlow(s) {
			continue
		}
		labels := []string{address(s.PeerStats), strings.ToValidUTF8(s.NodeID, "\uFFFD"),
			strings.ToValidUTF8(s.UserID, "\uFFFD")}
		daemon.Send(ch, slowQueue, s.Queued, labels...)
		daemon.Send(ch, slowQueueBytes, s.QueuedBytes, labels...)
		daemon.Send(ch, slowBlocked, s.Blocked.Seconds(), labels...)
		for _, r := range lossReasons {
			daemon.Send(ch, slowDropped, s.Dropped[r], append(labels, r.String())...)
		}
	}
}

// collectTopics sends the metrics of the topic classes, which the forwarder bounds.
func collectTopics(ch chan<- prometheus.Metric, classes map[string]forwarder.TopicStats) {
	for topic, st := range classes {
		daemon.Send(ch, topicMessages, st.Messages, topic)
		daemon.Send(ch, topicBytes, st.Bytes, topic)
		daemon.Send(ch, topicUnmatched, st.Unmatched, topic)
		for _, r := range lossReasons {
			daemon.Send(ch, topicDropped, st.Dropped[r], topic, r.String())
		}
	}
}

// peersOfSides returns the peers of both sides of the broker.
func peersOfSides(st forwarder.Stats) (publishers, subscribers []zmtp.PeerStats) {
	for _, p := range st.Publishers {
		publishers = append(publishers, p.PeerStats)
	}
	for _, s := range st.Subscribers {
		subscribers = append(subscribers, s.PeerStats)
	}
	return publishers, subscribers
}

func address(p zmtp.PeerStats) string {
	if p.Remote == nil {
		return ""
	}
	return p.Remote.String()
}

// minRateTime is the shortest time over which rates are computed.
const minRateTime = time.Second

// rateMeter computes the rates of peers between one answer to /status and the next. The zero value
// is ready to use.
type rateMeter struct {
	mu    sync.Mutex
	at    time.Time
	last  map[peerKey]zmtp.PeerStats
	rates map[peerKey][2]daemon.Rate // in, out
}

// peerKey tells peers of all sockets apart.
type peerKey struct {
	socket string
	id     uint64
}

// measure returns the rates of peers since the last call. A call less than minRateTime after the
// last one returns the same rates. The rates of a new peer are those since it connected.
func (m *rateMeter) measure(now time.Time,
	peers map[peerKey]zmtp.PeerStats) map[peerKey][2]daemon.Rate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rates != nil && now.Sub(m.at) < minRateTime {
		return m.rates
	}
	m.rates = make(map[peerKey][2]daemon.Rate, len(peers))
	for key, p := range peers {
		old, ok := m.last[key]
		since := m.at
		if !ok {
			since = p.Since
		}
		d := max(now.Sub(since), minRateTime).Seconds()
		m.rates[key] = [2]daemon.Rate{
			perSecond(p.In, old.In, d), perSecond(p.Out, old.Out, d),
		}
	}
	m.at, m.last = now, peers
	return m.rates
}

// perSecond returns the rate of the traffic between two counts.
func perSecond(now, before zmtp.Traffic, seconds float64) daemon.Rate {
	return daemon.Rate{
		Messages: float64(now.Messages-before.Messages) / seconds,
		Bytes:    float64(now.Bytes-before.Bytes) / seconds,
	}
}
