package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/gateway"
)

// The metrics of the WebSocket gateway. It bounds the number of clients with applications, and of
// topics, that it counts apart.
var (
	webSocketConnections = daemon.Gauge("zmtpd_websocket_connections",
		"Connections of WebSocket clients, including those in a handshake.")
	webSocketTopics = daemon.Gauge("zmtpd_websocket_topics",
		"Distinct topics that WebSocket clients subscribe.")
	webSocketQueue = daemon.Gauge("zmtpd_websocket_queue_events",
		"Events that wait for WebSocket clients, counted for each client.")
	webSocketQueueBytes = daemon.Gauge("zmtpd_websocket_queue_bytes",
		"Bytes of the events that wait for WebSocket clients, counted for each client.")
	webSocketBacklog = daemon.Gauge("zmtpd_websocket_backlog_bytes",
		"Bytes of messages that the gateway has not given to WebSocket clients yet.")
	webSocketRefused = daemon.Counter("zmtpd_websocket_refused_total",
		"Connections and messages of WebSocket clients that were refused.", "reason")
	webSocketDropped = daemon.Counter("zmtpd_websocket_dropped_events_total",
		"Events that WebSocket clients did not get, counted for each client; backlog: whoever "+
			"they were for.", "reason")
	webSocketTopicEvents = daemon.Counter("zmtpd_websocket_topic_events_total",
		"Events by topic class. in: published by WebSocket clients; out: written to them; "+
			"dropped: lost by them; the last two are counted for each client.",
		"topic", "direction")

	webSocketClients = daemon.Gauge("zmtpd_websocket_clients",
		"Connections of each client and application.", "client", "application")
	webSocketAccepted = daemon.Counter("zmtpd_websocket_accepted_total",
		"Connections accepted, by client and application.", "client", "application")
	webSocketIn = daemon.Counter("zmtpd_websocket_received_messages_total",
		"Messages from WebSocket clients.", "client", "application")
	webSocketInBytes = daemon.Counter("zmtpd_websocket_received_bytes_total",
		"Bytes of messages from WebSocket clients.", "client", "application")
	webSocketOut = daemon.Counter("zmtpd_websocket_sent_events_total",
		"Events written to WebSocket clients.", "client", "application")
	webSocketOutBytes = daemon.Counter("zmtpd_websocket_sent_bytes_total",
		"Bytes of events written to WebSocket clients.", "client", "application")
	webSocketLost = daemon.Counter("zmtpd_websocket_client_dropped_events_total",
		"Events that a WebSocket client did not get.", "client", "application")
	webSocketThrottled = daemon.Counter("zmtpd_websocket_throttled_messages_total",
		"Messages of WebSocket clients that waited for --websocket-rate.", "client", "application")
)

// collect sends the metrics.
func (j *gatewayJob) collect(ch chan<- prometheus.Metric) {
	if j == nil {
		return
	}
	st := j.g.Stats()
	daemon.Send(ch, webSocketConnections, st.Connections)
	daemon.Send(ch, webSocketTopics, st.Topics)
	daemon.Send(ch, webSocketQueue, st.Queued)
	daemon.Send(ch, webSocketQueueBytes, st.QueuedBytes)
	daemon.Send(ch, webSocketBacklog, st.Backlog)
	for r, n := range st.Refused {
		daemon.Send(ch, webSocketRefused, n, r.String())
	}
	for r, n := range st.Dropped {
		daemon.Send(ch, webSocketDropped, n, r.String())
	}
	for topic, t := range st.ByTopic {
		daemon.Send(ch, webSocketTopicEvents, t.In, topic, "in")
		daemon.Send(ch, webSocketTopicEvents, t.Out, topic, "out")
		daemon.Send(ch, webSocketTopicEvents, t.Dropped, topic, "dropped")
	}
	for _, c := range st.ByClient {
		labels := []string{strings.ToValidUTF8(c.Client, "\uFFFD"), c.Application}
		daemon.Send(ch, webSocketClients, c.Present, labels...)
		daemon.Send(ch, webSocketAccepted, c.Connections, labels...)
		daemon.Send(ch, webSocketIn, c.In.Messages, labels...)
		daemon.Send(ch, webSocketInBytes, c.In.Bytes, labels...)
		daemon.Send(ch, webSocketOut, c.Out.Messages, labels...)
		daemon.Send(ch, webSocketOutBytes, c.Out.Bytes, labels...)
		daemon.Send(ch, webSocketLost, c.Dropped, labels...)
		daemon.Send(ch, webSocketThrottled, c.Throttled, labels...)
	}
}

// gatewayStatus is the part of /status about WebSocket clients.
type gatewayStatus struct {
	Connections int                           `json:"connections"` // including those in a handshake
	Clients     int                           `json:"clients"`
	Topics      int                           `json:"topics"` // distinct, subscribed
	Taken       uint64                        `json:"taken"`  // messages from the broker
	Backlog     int64                         `json:"backlog_bytes"`
	Matched     uint64                        `json:"matched"` // = events out + dropped + queued
	Queued      int                           `json:"queued"`
	QueuedBytes int64                         `json:"queued_bytes"`
	Refused     map[string]uint64             `json:"refused,omitempty"` // by reason
	Dropped     map[string]uint64             `json:"dropped,omitempty"` // events by reason
	ByTopic     map[string]gatewayTopicStatus `json:"by_topic"`
	ByClient    []gatewayClientStatus         `json:"by_client"`
}

type gatewayTopicStatus struct {
	In      uint64 `json:"in"`
	Out     uint64 `json:"out"`
	Dropped uint64 `json:"dropped"`
}

type gatewayClientStatus struct {
	Client      string `json:"client"`
	Application string `json:"application"`
	Present     int    `json:"connections"`
	Connections uint64 `json:"accepted"`
	In          uint64 `json:"messages_in"`
	InBytes     uint64 `json:"bytes_in"`
	Out         uint64 `json:"events_out"`
	OutBytes    uint64 `json:"bytes_out"`
	Dropped     uint64 `json:"dropped"`
	Throttled   uint64 `json:"throttled"`
}

// status returns the part of /status about WebSocket clients, nil without a gateway.
func (j *gatewayJob) status() *gatewayStatus {
	if j == nil {
		return nil
	}
	st := j.g.Stats()
	s := &gatewayStatus{Connections: st.Connections, Clients: st.Clients, Topics: st.Topics,
		Taken: st.Taken, Backlog: st.Backlog, Matched: st.Matched,
		Queued: st.Queued, QueuedBytes: st.QueuedBytes,
		Refused: daemon.ByName(st.Refused), Dropped: daemon.ByName(st.Dropped),
		ByTopic: map[string]gatewayTopicStatus{}, ByClient: []gatewayClientStatus{}}
	for topic, t := range st.ByTopic {
		s.ByTopic[topic] = gatewayTopicStatus(t)
	}
	slices.SortFunc(st.ByClient, func(a, b gateway.ClientStats) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Application, b.Application))
	})
	for _, c := range st.ByClient {
		s.ByClient = append(s.ByClient, gatewayClientStatus{c.Client, c.Application, c.Present,
			c.Connections, c.In.Messages, c.In.Bytes, c.Out.Messages, c.Out.Bytes, c.Dropped,
			c.Throttled})
	}
	return s
}
