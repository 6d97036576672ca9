package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// balanceStatus is the part of /status about the balancer.
type balanceStatus struct {
	Sticky   bool                  `json:"sticky"`
	Pull     daemon.SocketStatus   `json:"pull"`     // nodes
	Push     daemon.SocketStatus   `json:"push"`     // connected loggers
	Loggers  []balanceLoggerStatus `json:"loggers"`  // all, in the order of --to
	Homeless int                   `json:"homeless"` // messages of lost loggers that wait for room
}

// balanceLoggerStatus is the state of one logger, connected or not. The counters are the sums over
// all its connections.
type balanceLoggerStatus struct {
	Endpoint    string `json:"endpoint"`
	Connected   bool   `json:"connected"`
	Connections uint64 `json:"connections"` // made
	Sent        uint64 `json:"sent"`        // messages
	SentBytes   uint64 `json:"sent_bytes"`  // on the wire
	Queue       int    `json:"queue"`       // messages that wait for it
	QueueBytes  int64  `json:"queue_bytes"`
	Moved       uint64 `json:"moved"`    // messages that went to others when it was lost
	Doubtful    uint64 `json:"doubtful"` // messages that were being sent when it was lost
}

// loggers returns the state of each logger.
func (j *balanceJob) loggers() []balanceLoggerStatus {
	byEndpoint := map[string]zmtp.EndpointStats{}
	for _, st := range j.push.Connecters() {
		byEndpoint[st.Endpoint] = st
	}
	all := make([]balanceLoggerStatus, len(j.flags.To))
	for i, e := range j.flags.To {
		st := byEndpoint[e]
		all[i] = balanceLoggerStatus{
			Endpoint: e, Connected: st.Connected, Connections: st.Connections,
			Sent: st.Out.Messages - st.Returned - uint64(st.Queued), SentBytes: st.Written,
			Queue: st.Queued, QueueBytes: st.QueuedBytes,
			Moved: st.Returned, Doubtful: st.Dropped[zmtp.DropConnectionLost],
		}
	}
	return all
}

func (j *balanceJob) Status() any {
	b := &balanceStatus{
		Sticky:  j.flags.Sticky,
		Pull:    daemon.NewSocketStatus(j.balancer.Pull().Stats()),
		Push:    daemon.NewSocketStatus(j.push.Stats()),
		Loggers: j.loggers(),
	}
	b.Homeless, _ = j.push.Returned()
	for _, p := range j.balancer.Pull().Peers() {
		peer := daemon.NewPeerStatus(p)
		node, waited := j.balancer.Node(p.ID)
		peer.Node, peer.BlockedSeconds = node, waited.Seconds()
		b.Pull.Peers = append(b.Pull.Peers, peer)
	}
	daemon.SortPeers(b.Pull.Peers)
	for _, p := range j.push.Peers() {
		b.Push.Peers = append(b.Push.Peers, daemon.NewPeerStatus(p))
	}
	daemon.SortPeers(b.Push.Peers)
	return b
}

// The metrics of the balancer. The label is an endpoint of --to.
var (
	balanceUp = daemon.Gauge("zmtpd_balance_logger_up",
		"1 while the logger is connected.", "logger")
	balanceConnections = daemon.Counter("zmtpd_balance_logger_connections_total",
		"Connections to the logger whose handshake was completed.", "logger")
	balanceSent = daemon.Counter("zmtpd_balance_logger_sent_messages_total",
		"Messages sent to the logger.", "logger")
	balanceSentBytes = daemon.Counter("zmtpd_balance_logger_sent_bytes_total",
		"Bytes sent to the logger, with framing.", "logger")
	balanceQueue = daemon.Gauge("zmtpd_balance_logger_queue_messages",
		"Messages that wait for the logger.", "logger")
	balanceQueueBytes = daemon.Gauge("zmtpd_balance_logger_queue_bytes",
		"Bytes that wait for the logger.", "logger")
	balanceMoved = daemon.Counter("zmtpd_balance_logger_moved_messages_total",
		"Messages that waited for the logger when it was lost and went to others.", "logger")
	balanceDoubtful = daemon.Counter("zmtpd_balance_logger_doubtful_messages_total",
		"Messages that were being sent to the logger when it was lost; it may have them.", "logger")
	balanceHomeless = daemon.Gauge("zmtpd_balance_homeless_messages",
		"Messages of lost loggers that wait for room at another one.")
	balanceHomelessBytes = daemon.Gauge("zmtpd_balance_homeless_bytes",
		"Bytes of lost loggers that wait for room at another one.")
	balanceWaiting = daemon.Gauge("zmtpd_balance_waiting_nodes",
		"Nodes that wait because no logger has room.")
)

func (j *balanceJob) Collect(ch chan<- prometheus.Metric) {
	peers := j.balancer.Pull().Peers()
	daemon.CollectSocket(ch, "pull", j.balancer.Pull().Stats(), peers)
	j.access.CollectPeers(ch, domainPull, peers)
	daemon.CollectSocket(ch, "push", j.push.Stats(), j.push.Peers())
	for _, l := range j.loggers() {
		up := 0
		if l.Connected {
			up = 1
		}
		daemon.Send(ch, balanceUp, up, l.Endpoint)
		daemon.Send(ch, balanceConnections, l.Connections, l.Endpoint)
		daemon.Send(ch, balanceSent, l.Sent, l.Endpoint)
		daemon.Send(ch, balanceSentBytes, l.SentBytes, l.Endpoint)
		daemon.Send(ch, balanceQueue, l.Queue, l.Endpoint)
		daemon.Send(ch, balanceQueueBytes, l.QueueBytes, l.Endpoint)
		daemon.Send(ch, balanceMoved, l.Moved, l.Endpoint)
		daemon.Send(ch, balanceDoubtful, l.Doubtful, l.Endpoint)
	}
	messages, bytes := j.push.Returned()
	daemon.Send(ch, balanceHomeless, messages)
	daemon.Send(ch, balanceHomelessBytes, bytes)
	daemon.Send(ch, balanceWaiting, j.balancer.Blocked())
}
