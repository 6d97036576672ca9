package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp"
)

// The metrics of authentication.
var (
	authAnswers = Counter("zmtpd_authentication_answers_total",
		"Decisions about new connections by ZAP status; --auth-refusal does not change it.",
		"socket", "status")
	curveClients = Gauge("zmtpd_curve_clients",
		"Client keys that may connect.")
	curveServerKeys = Gauge("zmtpd_curve_server_keys",
		"Server keys in use.")
	curveReloads = Counter("zmtpd_curve_reloads_total",
		"Reloads of the keys.", "result")
	curveHandshakes = Counter("zmtpd_curve_handshakes_total",
		"CURVE handshakes by what --curve-handshake-rate did with them: started; refused_rate, "+
			"beyond the share of the address; refused_full, too many waited.", "result")
	curveWaiting = Gauge("zmtpd_curve_handshakes_waiting",
		"CURVE handshakes that wait for their turn.")
	curveMultiplications = Counter("zmtpd_curve_multiplications_total",
		"Curve25519 multiplications for handshakes, each some 30 µs of CPU time.")
	curveChanged = Gauge("zmtpd_curve_keys_changed_timestamp_seconds",
		"When the keys in use were read, in seconds since 1970.")
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

// ClientLabel returns the label of a client in metrics. The number of labels is bounded.
func (s *Access) ClientLabel(name string) string { return s.labels.Label(name) }

// CollectPeers sends the number of connections that each client has to a socket.
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

// AccessStatus is the part of /status about encryption and access.
type AccessStatus struct {
	Mechanism  string     `json:"mechanism"`             // CURVE, PLAIN or NULL
	ServerKeys []string   `json:"server_keys,omitempty"` // the public ones
	Clients    int        `json:"clients"`               // keys or users; 0 with a ZAP handler
	Changed    *time.Time `json:"changed,omitempty"`     // when the keys in use were read
	Reloads    uint64     `json:"reloads"`
	Failures   uint64     `json:"failed_reloads"`
	// Permissions are what clients may do, in the order of their names. The list has the first
	// 250 of them; Clients has their number.
	Permissions []ClientPermissions `json:"permissions,omitempty"`
}

// ClientPermissions are what a client may do. Publish and Subscribe are prefixes of topics; nil
// allows all.
type ClientPermissions struct {
	Client    string   `json:"client"`
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
	Logs      bool     `json:"logs"`
}

// maxPermissions bounds the clients, and the prefixes of each, in /status.
const maxPermissions = 250

func (s *Access) status() *AccessStatus {
	st := &AccessStatus{Mechanism: "NULL"}
	if users := s.Users(); users != nil {
		st.Mechanism, st.Clients = "PLAIN", users.Len()
	}
	if s.Keys() == nil {
		return st
	}
	keys := s.Keys().Stats()
	st.Mechanism, st.Changed, st.Reloads, st.Failures = "CURVE", &keys.Changed, keys.Reloads,
		keys.Failures
	if s.Listed() {
		st.Clients = keys.Clients
		clients := s.Keys().Clients()
		for _, c := range clients[:min(len(clients), maxPermissions)] {
			st.Permissions = append(st.Permissions, ClientPermissions{c.Name,
				c.Publish[:min(len(c.Publish), maxPermissions)],
				c.Subscribe[:min(len(c.Subscribe), maxPermissions)], !c.NoLogs})
		}
	}
	for _, k := range s.Keys().PublicKeys() {
		st.ServerKeys = append(st.ServerKeys, k.String())
	}
	return st
}
