package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp"
)

// The metrics of authentication.
var (
	authAnswers = Counter("zmtpd_authentication_answers_total",
		"What was decided about new connections: the ZAP status, before --auth-refusal, or none.",
		"socket", "status")
	curveClients = Gauge("zmtpd_curve_clients",
		"Client keys that may come in.")
	curveServerKeys = Gauge("zmtpd_curve_server_keys",
		"Server keys that clients may know.")
	curveReloads = Counter("zmtpd_curve_reloads_total",
		"How often the keys were read again.", "result")
	curveHandshakes = Counter("zmtpd_curve_handshakes_total",
		"Handshakes that clients asked for, by --curve-handshake-rate: started; refused_rate, "+
			"above their address's share;"+
			" refused_full, too many waited.", "result")
	curveWaiting = Gauge("zmtpd_curve_handshakes_waiting",
		"Handshakes that wait for their turn.")
	curveMultiplications = Counter("zmtpd_curve_multiplications_total",
		"Multiplications on the curve for handshakes, each some 30 µs of CPU time.")
	curveChanged = Gauge("zmtpd_curve_keys_changed_timestamp_seconds",
		"When the keys that count were read, in seconds since 1970.")
	clientPeers = Gauge("zmtpd_client_peers",
		"Connections of each client.", "client", "socket")
)

// collect sends the metrics.
func (s *Access) collect(ch chan<- prometheus.Metric) {
	if !s.Restricted() {
		return
	}
	for domain, byStatus := range s.Answers() {
		for status, n := range byStatus {
			Send(ch, authAnswers, n, domain, status)
		}
	}
	if s.Keys() == nil {
		return
	}
	st := s.Keys().Stats()
	Send(ch, curveServerKeys, st.ServerKeys)
	Send(ch, curveReloads, st.Reloads, "ok")
	Send(ch, curveReloads, st.Failures, "failed")
	Send(ch, curveChanged, float64(st.Changed.UnixMilli())/1000)
	handshakes := s.Keys().Handshakes()
	Send(ch, curveHandshakes, handshakes.Started, "started")
	Send(ch, curveHandshakes, handshakes.RefusedRate, "refused_rate")
	Send(ch, curveHandshakes, handshakes.RefusedFull, "refused_full")
	Send(ch, curveWaiting, handshakes.Waiting)
	Send(ch, curveMultiplications, handshakes.Multiplications)
	if s.Listed() {
		Send(ch, curveClients, st.Clients)
	}
}

// ClientLabel returns the label of a client in metrics. The labels are bounded.
func (s *Access) ClientLabel(name string) string { return s.labels.Label(name) }

// CollectPeers sends how many connections each client has to a socket.
func (s *Access) CollectPeers(ch chan<- prometheus.Metric, socket string, peers []zmtp.PeerStats) {
	counts := map[string]int{}
	for _, p := range peers {
		if p.UserID != "" {
			counts[s.ClientLabel(p.UserID)]++
		}
	}
	for client, n := range counts {
		Send(ch, clientPeers, n, client, socket)
	}
}

// AccessStatus is about who may come in.
type AccessStatus struct {
	Mechanism  string     `json:"mechanism"`             // CURVE or NULL
	ServerKeys []string   `json:"server_keys,omitempty"` // the public ones
	Clients    int        `json:"clients"`               // keys that may come in; 0 if a ZAP handler decides
	Changed    *time.Time `json:"changed,omitempty"`     // when the keys were read
	Reloads    uint64     `json:"reloads"`
	Failures   uint64     `json:"failed_reloads"`
}

func (s *Access) status() *AccessStatus {
	st := &AccessStatus{Mechanism: "NULL"}
	if s.Keys() == nil {
		return st
	}
	keys := s.Keys().Stats()
	st.Mechanism, st.Changed, st.Reloads, st.Failures = "CURVE", &keys.Changed, keys.Reloads,
		keys.Failures
	if s.Listed() {
		st.Clients = keys.Clients
	}
	for _, k := range s.Keys().PublicKeys() {
		st.ServerKeys = append(st.ServerKeys, k.String())
	}
	return st
}
