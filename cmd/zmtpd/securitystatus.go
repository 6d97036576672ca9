package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// The metrics of authentication.
var (
	authAnswers = counter("zmtpd_authentication_answers_total",
		"What was decided about new connections: the ZAP status, before --auth-refusal, or none.", "socket", "status")
	curveClients = gauge("zmtpd_curve_clients",
		"Client keys that may come in.")
	curveServerKeys = gauge("zmtpd_curve_server_keys",
		"Server keys that clients may know.")
	curveReloads = counter("zmtpd_curve_reloads_total",
		"How often the keys were read again.", "result")
	curveHandshakes = counter("zmtpd_curve_handshakes_total",
		"Handshakes that clients asked for, by --curve-handshake-rate: started; refused_rate, above their address's share;"+
			" refused_full, too many waited.", "result")
	curveWaiting = gauge("zmtpd_curve_handshakes_waiting",
		"Handshakes that wait for their turn.")
	curveMultiplications = counter("zmtpd_curve_multiplications_total",
		"Multiplications on the curve for handshakes, each some 30 µs of CPU time.")
	curveChanged = gauge("zmtpd_curve_keys_changed_timestamp_seconds",
		"When the keys that count were read, in seconds since 1970.")
	clientPeers = gauge("zmtpd_client_peers",
		"Connections of each client.", "client", "socket")
	clientDenied = counter("zmtpd_client_denied_total",
		"Messages and subscriptions that a client was not allowed.", "client", "action")
)

// collect sends the metrics.
func (s *security) collect(ch chan<- prometheus.Metric) {
	if !s.Restricted() {
		return
	}
	for domain, byStatus := range s.Answers() {
		for status, n := range byStatus {
			send(ch, authAnswers, n, domain, status)
		}
	}
	if s.Keys() == nil {
		return
	}
	st := s.Keys().Stats()
	send(ch, curveServerKeys, st.ServerKeys)
	send(ch, curveReloads, st.Reloads, "ok")
	send(ch, curveReloads, st.Failures, "failed")
	send(ch, curveChanged, float64(st.Changed.UnixMilli())/1000)
	handshakes := s.Keys().Handshakes()
	send(ch, curveHandshakes, handshakes.Started, "started")
	send(ch, curveHandshakes, handshakes.RefusedRate, "refused_rate")
	send(ch, curveHandshakes, handshakes.RefusedFull, "refused_full")
	send(ch, curveWaiting, handshakes.Waiting)
	send(ch, curveMultiplications, handshakes.Multiplications)
	if s.Listed() {
		send(ch, curveClients, st.Clients)
	}
}

// collectPeers sends how many connections each client has to a socket.
func (s *security) collectPeers(ch chan<- prometheus.Metric, socket string, peers []zmtp.PeerStats) {
	counts := map[string]int{}
	for _, p := range peers {
		if p.UserID != "" {
			counts[s.clients.label(p.UserID)]++
		}
	}
	for client, n := range counts {
		send(ch, clientPeers, n, client, socket)
	}
}

// collectDenied sends what clients were not allowed.
func (s *security) collectDenied(ch chan<- prometheus.Metric, all map[string]forwarder.Denied) {
	counts := map[string]forwarder.Denied{}
	for user, d := range all {
		label := s.clients.label(user)
		c := counts[label]
		counts[label] = forwarder.Denied{Messages: c.Messages + d.Messages, Subscriptions: c.Subscriptions + d.Subscriptions}
	}
	for client, d := range counts {
		send(ch, clientDenied, d.Messages, client, "publish")
		send(ch, clientDenied, d.Subscriptions, client, "subscribe")
	}
}

// securityStatus is about who may come in.
type securityStatus struct {
	Mechanism  string     `json:"mechanism"`             // CURVE or NULL
	ServerKeys []string   `json:"server_keys,omitempty"` // the public ones
	Clients    int        `json:"clients"`               // keys that may come in; 0 if a ZAP handler decides
	Changed    *time.Time `json:"changed,omitempty"`     // when the keys were read
	Reloads    uint64     `json:"reloads"`
	Failures   uint64     `json:"failed_reloads"`
}

func (s *security) status() *securityStatus {
	st := &securityStatus{Mechanism: "NULL"}
	if s.Keys() == nil {
		return st
	}
	keys := s.Keys().Stats()
	st.Mechanism, st.Changed, st.Reloads, st.Failures = "CURVE", &keys.Changed, keys.Reloads, keys.Failures
	if s.Listed() {
		st.Clients = keys.Clients
	}
	for _, k := range s.Keys().PublicKeys() {
		st.ServerKeys = append(st.ServerKeys, k.String())
	}
	return st
}
