package main

import (
	"runtime"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// The metrics are read from Stats() at each scrape. Every label has a bounded number of
// values: reasons are enums, and of what peers or operators make up, log paths and names of clients, only the first
// maxLabels have a series of their own.

// metric is the description of a metric and its type.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// number is what a metric is made from.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

func send[N number](ch chan<- prometheus.Metric, m metric, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(v), labels...)
}

// registry returns the metrics of the daemon.
func (d *daemon) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "zmtpd_build_info",
			Help:        "1, with what the binary was made of as labels.",
			ConstLabels: prometheus.Labels{"version": versionString(), "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "zmtpd_ready",
			Help: "1 while all endpoints are bound, a balancer has a logger, and zmtpd is not shutting down.",
		}, func() float64 {
			if d.isReady() {
				return 1
			}
			return 0
		}),
	)
	r.MustRegister(d)
	return r
}

// Describe implements [prometheus.Collector]. It describes nothing, which tells the
// registry to take what comes: metrics by log path come with the first log.
func (d *daemon) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (d *daemon) Collect(ch chan<- prometheus.Metric) {
	d.security.collect(ch)
	for _, j := range d.jobs {
		j.collect(ch)
	}
}

// The metrics of every socket, by its type.
var (
	socketPeers = gauge("zmtpd_socket_peers",
		"Connections whose handshake is complete.", "socket")
	socketPending = gauge("zmtpd_socket_pending_handshakes",
		"Accepted connections whose handshake is not complete.", "socket")
	socketAccepted = counter("zmtpd_socket_accepted_connections_total",
		"Connections accepted.", "socket")
	socketHandshakes = counter("zmtpd_socket_handshakes_total",
		"Handshakes completed.", "socket")
	socketHandshakeFailures = counter("zmtpd_socket_handshake_failures_total",
		"Connections that did not get through the handshake.", "socket", "reason")
	socketClosed = counter("zmtpd_socket_closed_connections_total",
		"Connections that ended after their handshake.", "socket", "reason")
	socketMessagesReceived = counter("zmtpd_socket_received_messages_total",
		"Messages received.", "socket")
	socketPartsReceived = counter("zmtpd_socket_received_parts_total",
		"Message parts received.", "socket")
	socketBytesReceived = counter("zmtpd_socket_received_bytes_total",
		"Bytes of message parts received.", "socket")
	socketMessagesSent = counter("zmtpd_socket_sent_messages_total",
		"Messages sent, one to each peer.", "socket")
	socketPartsSent = counter("zmtpd_socket_sent_parts_total",
		"Message parts sent, one to each peer.", "socket")
	socketBytesSent = counter("zmtpd_socket_sent_bytes_total",
		"Bytes of message parts sent, to each peer.", "socket")
	socketDropped = counter("zmtpd_socket_dropped_messages_total",
		"Messages given up.", "socket", "reason")
	socketReceiveQueue = gauge("zmtpd_socket_receive_queue_messages",
		"Messages received that wait to be dealt with.", "socket")
	socketReceiveQueueBytes = gauge("zmtpd_socket_receive_queue_bytes",
		"Bytes of the messages received that wait to be dealt with.", "socket")
	socketSendQueue = gauge("zmtpd_socket_send_queue_messages",
		"Messages that wait to be sent, of all peers.", "socket")
	socketSendQueueBytes = gauge("zmtpd_socket_send_queue_bytes",
		"Bytes that wait to be sent, of all peers.", "socket")
	socketSendQueueMax = gauge("zmtpd_socket_longest_send_queue_messages",
		"Messages that wait for the peer for which most wait.", "socket")
)

// collectSocket sends the metrics of one socket.
func collectSocket(ch chan<- prometheus.Metric, socket string, st zmtp.Stats, peers []zmtp.PeerStats) {
	send(ch, socketPeers, st.Peers, socket)
	send(ch, socketPending, st.PendingHandshakes, socket)
	send(ch, socketAccepted, st.Accepted, socket)
	send(ch, socketHandshakes, st.Handshakes, socket)
	for _, r := range wire.Reasons() {
		send(ch, socketHandshakeFailures, st.HandshakeFailures[r], socket, r.String())
		send(ch, socketClosed, st.Closed[r], socket, r.String())
	}
	send(ch, socketMessagesReceived, st.In.Messages, socket)
	send(ch, socketPartsReceived, st.In.Parts, socket)
	send(ch, socketBytesReceived, st.In.Bytes, socket)
	send(ch, socketMessagesSent, st.Out.Messages, socket)
	send(ch, socketPartsSent, st.Out.Parts, socket)
	send(ch, socketBytesSent, st.Out.Bytes, socket)
	for _, r := range dropReasons {
		send(ch, socketDropped, st.Dropped[r], socket, r.String())
	}
	send(ch, socketReceiveQueue, st.RecvQueued, socket)
	send(ch, socketReceiveQueueBytes, st.RecvQueuedBytes, socket)
	var messages, longest int
	var bytes int64
	for _, p := range peers {
		messages += p.Queued
		bytes += p.QueuedBytes
		longest = max(longest, p.Queued)
	}
	send(ch, socketSendQueue, messages, socket)
	send(ch, socketSendQueueBytes, bytes, socket)
	send(ch, socketSendQueueMax, longest, socket)
}

var dropReasons = []zmtp.DropReason{zmtp.DropFull, zmtp.DropNoPeer, zmtp.DropConnectionLost, zmtp.DropClosed}

// The metrics of the broker.
var (
	forwarderTopics = gauge("zmtpd_forwarder_topics",
		"Distinct topics that are subscribed.")
	forwarderSubscriptions = gauge("zmtpd_forwarder_subscriptions",
		"Topics that are subscribed, counted for each subscriber.")
	forwarderSlow = gauge("zmtpd_forwarder_slow_subscribers",
		"Subscribers that do not keep up, as the overload policy says.")
	forwarderUnmatched = counter("zmtpd_forwarder_unmatched_messages_total",
		"Messages that nobody had subscribed.")
)

// proxyMetrics are those of the broker inside a Zeek manager, under their names there. Like
// Zeek they count message parts.
var proxyMetrics = []struct {
	messages, bytes metric
	of              func(*forwarder.Stats) zmtp.Traffic
}{
	proxyMetric("frontend", "received", "from publishers", func(s *forwarder.Stats) zmtp.Traffic { return s.Frontend.In }),
	proxyMetric("frontend", "sent", "to publishers", func(s *forwarder.Stats) zmtp.Traffic { return s.Frontend.Out }),
	proxyMetric("backend", "received", "from subscribers", func(s *forwarder.Stats) zmtp.Traffic { return s.Backend.In }),
	proxyMetric("backend", "sent", "to subscribers", func(s *forwarder.Stats) zmtp.Traffic { return s.Backend.Out }),
}

func proxyMetric(side, direction, whom string, of func(*forwarder.Stats) zmtp.Traffic) (m struct {
	messages, bytes metric
	of              func(*forwarder.Stats) zmtp.Traffic
}) {
	prefix := "zeek_cluster_zeromq_proxy_" + side
	m.messages = counter(prefix+"_messages_"+direction+"_total", "Message parts "+direction+" "+whom+", counted as in Zeek.")
	m.bytes = counter(prefix+"_bytes_"+direction+"_total", "Bytes of message parts "+direction+" "+whom+", counted as in Zeek.")
	m.of = of
	return m
}

// collectForwarder sends the metrics of the broker.
func collectForwarder(ch chan<- prometheus.Metric, st forwarder.Stats) {
	publishers, subscribers := peersOfSides(st)
	collectSocket(ch, "xsub", st.XSub, publishers)
	subscriptions, slow := 0, 0
	for _, s := range st.Subscribers {
		subscriptions += s.Topics
		if !s.SlowSince.IsZero() {
			slow++
		}
	}
	collectSocket(ch, "xpub", st.XPub, subscribers)
	send(ch, forwarderTopics, st.Topics)
	send(ch, forwarderSubscriptions, subscriptions)
	send(ch, forwarderSlow, slow)
	send(ch, forwarderUnmatched, st.Received.Unmatched)
	collectTopics(ch, st.ByTopic)
	collectSlow(ch, st.Subscribers)
	for _, m := range proxyMetrics {
		t := m.of(&st)
		send(ch, m.messages, t.Parts)
		send(ch, m.bytes, t.Bytes)
	}
}

const (
	// maxLabels is how many values of a label have series of their own. A Zeek cluster has about a hundred log paths.
	maxLabels = 250
	// otherLabel is the label of all others.
	otherLabel = "other"
)

// boundedLabels are the values of a label that have series of their own: the first ones, for good, because a counter
// must not go back. The zero value is ready for use.
type boundedLabels struct {
	mu     sync.Mutex
	labels map[string]string // guarded by mu; by value
}

// label returns the value of the label for any value.
func (b *boundedLabels) label(value string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	label, ok := b.labels[value]
	if !ok && len(b.labels) < maxLabels {
		if b.labels == nil {
			b.labels = map[string]string{}
		}
		label, ok = strings.ToValidUTF8(value, "\uFFFD"), true
		b.labels[value] = label
	}
	if !ok {
		return otherLabel
	}
	return label
}
