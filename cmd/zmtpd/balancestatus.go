package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp"
)

// balanceStatus is about the balancer.
type balanceStatus struct {
	Sticky   bool                  `json:"sticky"`
	Pull     socketStatus          `json:"pull"`     // nodes
	Push     socketStatus          `json:"push"`     // loggers that are connected
	Loggers  []balanceLoggerStatus `json:"loggers"`  // all, in the order of --to
	Homeless int                   `json:"homeless"` // messages of loggers that were lost, for which no other has room
}

// balanceLoggerStatus is about a logger, whether it is there or not. The counters are of all its connections.
type balanceLoggerStatus struct {
	Endpoint    string `json:"endpoint"`
	Connected   bool   `json:"connected"`
	Connections uint64 `json:"connections"` // made
	Sent        uint64 `json:"sent"`        // messages
	SentBytes   uint64 `json:"sent_bytes"`  // on the wire
	Queue       int    `json:"queue"`       // messages that wait for it
	QueueBytes  int64  `json:"queue_bytes"`
	Moved       uint64 `json:"moved"`    // messages that waited when it was lost and went to others
	Doubtful    uint64 `json:"doubtful"` // messages that were being sent when it was lost: it may or may not have them
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

func (j *balanceJob) status(s *status) {
	b := &balanceStatus{
		Sticky:  j.flags.Sticky,
		Pull:    newSocketStatus(j.balancer.Pull().Stats()),
		Push:    newSocketStatus(j.push.Stats()),
		Loggers: j.loggers(),
	}
	b.Homeless, _ = j.push.Returned()
	for _, p := range j.balancer.Pull().Peers() {
		peer := newPeerStatus(p)
		node, waited := j.balancer.Node(p.ID)
		peer.Node, peer.BlockedSeconds = node, waited.Seconds()
		b.Pull.Peers = append(b.Pull.Peers, peer)
	}
	sortPeers(b.Pull.Peers)
	for _, p := range j.push.Peers() {
		b.Push.Peers = append(b.Push.Peers, newPeerStatus(p))
	}
	sortPeers(b.Push.Peers)
	s.Balance = b
}

// The metrics of the balancer. The label is an endpoint of --to.
var (
	balanceUp = gauge("zmtpd_balance_logger_up",
		"1 while the logger is connected.", "logger")
	balanceConnections = counter("zmtpd_balance_logger_connections_total",
		"Connections to the logger whose handshake was completed.", "logger")
	balanceSent = counter("zmtpd_balance_logger_sent_messages_total",
		"Messages sent to the logger.", "logger")
	balanceSentBytes = counter("zmtpd_balance_logger_sent_bytes_total",
		"Bytes sent to the logger, with framing.", "logger")
	balanceQueue = gauge("zmtpd_balance_logger_queue_messages",
		"Messages that wait for the logger.", "logger")
	balanceQueueBytes = gauge("zmtpd_balance_logger_queue_bytes",
		"Bytes that wait for the logger.", "logger")
	balanceMoved = counter("zmtpd_balance_logger_moved_messages_total",
		"Messages that waited for the logger when it was lost and went to others.", "logger")
	balanceDoubtful = counter("zmtpd_balance_logger_doubtful_messages_total",
		"Messages that were being sent to the logger when it was lost: it may or may not have them.", "logger")
	balanceHomeless = gauge("zmtpd_balance_homeless_messages",
		"Messages of loggers that were lost, for which no other has room.")
	balanceHomelessBytes = gauge("zmtpd_balance_homeless_bytes",
		"Bytes of the messages of loggers that were lost, for which no other has room.")
	balanceWaiting = gauge("zmtpd_balance_waiting_nodes",
		"Nodes that are not read because no logger has room for what they sent.")
)

func (j *balanceJob) collect(ch chan<- prometheus.Metric) {
	peers := j.balancer.Pull().Peers()
	collectSocket(ch, "pull", j.balancer.Pull().Stats(), peers)
	j.security.collectPeers(ch, "pull", peers)
	collectSocket(ch, "push", j.push.Stats(), j.push.Peers())
	for _, l := range j.loggers() {
		up := 0
		if l.Connected {
			up = 1
		}
		send(ch, balanceUp, up, l.Endpoint)
		send(ch, balanceConnections, l.Connections, l.Endpoint)
		send(ch, balanceSent, l.Sent, l.Endpoint)
		send(ch, balanceSentBytes, l.SentBytes, l.Endpoint)
		send(ch, balanceQueue, l.Queue, l.Endpoint)
		send(ch, balanceQueueBytes, l.QueueBytes, l.Endpoint)
		send(ch, balanceMoved, l.Moved, l.Endpoint)
		send(ch, balanceDoubtful, l.Doubtful, l.Endpoint)
	}
	messages, bytes := j.push.Returned()
	send(ch, balanceHomeless, messages)
	send(ch, balanceHomelessBytes, bytes)
	send(ch, balanceWaiting, j.balancer.Blocked())
}
