package daemon

import (
	"runtime"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Each scrape reads the metrics from Stats(). Every label has a bounded number of values: reasons
// are enums. Peers and operators choose log paths and names of clients, so that only the first
// MaxLabels of them have series of their own.

// Metric is the description of a metric and its type.
type Metric struct {
	Name, Help string
	Labels     []string
	desc       *prometheus.Desc
	kind       prometheus.ValueType
}

// described are all metrics, in the order in which the packages describe them: it changes only
// while package variables are initialized.
var described []Metric

// Metrics returns the descriptions of all metrics of all daemons.
func Metrics() []Metric { return described }

// IsCounter reports whether the metric is a counter. It is a gauge otherwise.
func (m Metric) IsCounter() bool { return m.kind == prometheus.CounterValue }

// Counter describes a counter. Call it for the value of a package variable, so that [Metrics] has
// it.
func Counter(name, help string, labels ...string) Metric {
	return describe(name, help, labels, prometheus.CounterValue)
}

// Gauge describes a gauge, as [Counter] does.
func Gauge(name, help string, labels ...string) Metric {
	return describe(name, help, labels, prometheus.GaugeValue)
}

func describe(name, help string, labels []string, kind prometheus.ValueType) Metric {
	m := Metric{name, help, labels, prometheus.NewDesc(name, help, labels, nil), kind}
	described = append(described, m)
	return m
}

// number is a type of the values of metrics.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// Send sends the value of a metric.
func Send[N number](ch chan<- prometheus.Metric, m Metric, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(v), labels...)
}

var (
	buildInfo = Gauge("zmtpd_build_info", "1; the labels tell what the binary was built from.",
		"version", "goversion")
	ready = Gauge("zmtpd_ready", "1 while /readyz says that zmtpd is ready.")
)

// registry returns the metrics of the daemon.
func (d *daemon) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		d,
	)
	return r
}

// Describe implements [prometheus.Collector]. It describes nothing: the series are not known in
// advance, since those of a log path begin with its first log.
func (d *daemon) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (d *daemon) Collect(ch chan<- prometheus.Metric) {
	Send(ch, buildInfo, 1, d.version, runtime.Version())
	isReady := 0
	if d.notReady() == nil {
		isReady = 1
	}
	Send(ch, ready, isReady)
	d.access.collect(ch)
	collectMemory(ch, d.memory.Stats())
	for _, j := range d.jobs {
		j.Collect(ch)
	}
}

// The metrics of every socket, by its type.
var (
	socketPeers = Gauge("zmtpd_socket_peers",
		"Connections whose handshake is complete.", "socket")
	socketPending = Gauge("zmtpd_socket_pending_handshakes",
		"Accepted connections whose handshake is not yet complete.", "socket")
	socketAccepted = Counter("zmtpd_socket_accepted_connections_total",
		"Connections accepted.", "socket")
	socketHandshakes = Counter("zmtpd_socket_handshakes_total",
		"Handshakes completed.", "socket")
	socketHandshakeFailures = Counter("zmtpd_socket_handshake_failures_total",
		"Connections whose handshake failed.", "socket", "reason")
	socketClosed = Counter("zmtpd_socket_closed_connections_total",
		"Connections that ended after their handshake.", "socket", "reason")
	socketMessagesReceived = Counter("zmtpd_socket_received_messages_total",
		"Messages received.", "socket")
	socketPartsReceived = Counter("zmtpd_socket_received_parts_total",
		"Message parts received.", "socket")
	socketBytesReceived = Counter("zmtpd_socket_received_bytes_total",
		"Bytes of message parts received.", "socket")
	socketMessagesSent = Counter("zmtpd_socket_sent_messages_total",
		"Messages sent, one to each peer.", "socket")
	socketPartsSent = Counter("zmtpd_socket_sent_parts_total",
		"Message parts sent, one to each peer.", "socket")
	socketBytesSent = Counter("zmtpd_socket_sent_bytes_total",
		"Bytes of message parts sent, to each peer.", "socket")
	socketDropped = Counter("zmtpd_socket_dropped_messages_total",
		"Messages lost.", "socket", "reason")
	socketReceiveQueue = Gauge("zmtpd_socket_receive_queue_messages",
		"Messages received that wait to be processed.", "socket")
	socketReceiveQueueBytes = Gauge("zmtpd_socket_receive_queue_bytes",
		"Bytes of the messages received that wait to be processed.", "socket")
	socketSendQueue = Gauge("zmtpd_socket_send_queue_messages",
		"Messages that wait to be sent, to all peers together.", "socket")
	socketSendQueueBytes = Gauge("zmtpd_socket_send_queue_bytes",
		"Bytes that wait to be sent, to all peers together.", "socket")
	socketSendQueueMax = Gauge("zmtpd_socket_longest_send_queue_messages",
		"Messages that wait for the peer with the longest queue.", "socket")
)

// CollectSocket sends the metrics of one socket.
func CollectSocket(ch chan<- prometheus.Metric, socket string, st zmtp.Stats,
	peers []zmtp.PeerStats) {
	Send(ch, socketPeers, st.Peers, socket)
	Send(ch, socketPending, st.PendingHandshakes, socket)
	Send(ch, socketAccepted, st.Accepted, socket)
	Send(ch, socketHandshakes, st.Handshakes, socket)
	for _, r := range wire.Reasons() {
		Send(ch, socketHandshakeFailures, st.HandshakeFailures[r], socket, r.String())
		Send(ch, socketClosed, st.Closed[r], socket, r.String())
	}
	Send(ch, socketMessagesReceived, st.In.Messages, socket)
	Send(ch, socketPartsReceived, st.In.Parts, socket)
	Send(ch, socketBytesReceived, st.In.Bytes, socket)
	Send(ch, socketMessagesSent, st.Out.Messages, socket)
	Send(ch, socketPartsSent, st.Out.Parts, socket)
	Send(ch, socketBytesSent, st.Out.Bytes, socket)
	for _, r := range dropReasons {
		Send(ch, socketDropped, st.Dropped[r], socket, r.String())
	}
	Send(ch, socketReceiveQueue, st.RecvQueued, socket)
	Send(ch, socketReceiveQueueBytes, st.RecvQueuedBytes, socket)
	var messages, longest int
	var bytes int64
	for _, p := range peers {
		messages += p.Queued
		bytes += p.QueuedBytes
		longest = max(longest, p.Queued)
	}
	Send(ch, socketSendQueue, messages, socket)
	Send(ch, socketSendQueueBytes, bytes, socket)
	Send(ch, socketSendQueueMax, longest, socket)
}

var dropReasons = []zmtp.DropReason{zmtp.DropFull, zmtp.DropNoPeer, zmtp.DropConnectionLost,
	zmtp.DropClosed, zmtp.DropTooLarge}

const (
	// MaxLabels is the number of values of a label that have series of their own. A Zeek cluster
	// has about a hundred log paths.
	MaxLabels = 250
	// OtherLabel is the label of all other values.
	OtherLabel = "other"
)

// Labels bounds the values of a label that have series of their own. The first values keep theirs
// for good, because a counter must not go back. The zero value is ready to use. Any goroutine may
// call its methods.
type Labels struct {
	mu     sync.Mutex
	labels map[string]string // guarded by mu; by value
}

// Label returns the label for a value: the value as valid UTF-8, or OtherLabel.
func (b *Labels) Label(value string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	label, ok := b.labels[value]
	if !ok && len(b.labels) < MaxLabels {
		if b.labels == nil {
			b.labels = map[string]string{}
		}
		label, ok = strings.ToValidUTF8(value, "\uFFFD"), true
		b.labels[value] = label
	}
	if !ok {
		return OtherLabel
	}
	return label
}

// Sum returns the sum of counters.
func Sum[R comparable](counts map[R]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
