package daemon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"zmtpd/zmtp"
)

// Status is the answer to /status. A part for each job follows it under the job's name.
type Status struct {
	Version       string        `json:"version"`
	Started       time.Time     `json:"started"`
	UptimeSeconds float64       `json:"uptime_seconds"`
	Ready         bool          `json:"ready"`
	NotReady      string        `json:"not_ready,omitempty"` // the reason if it is not ready
	Endpoints     []Endpoint    `json:"endpoints"`
	Security      *AccessStatus `json:"security"`
	Memory        *MemoryStatus `json:"memory,omitempty"`
}

// answer is a Status with the parts of the jobs.
type answer struct {
	Status
	jobs []Job
}

// MarshalJSON implements [json.Marshaler].
func (a answer) MarshalJSON() ([]byte, error) {
	object, err := json.Marshal(a.Status)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(object[:len(object)-1]) // without the brace at its end
	for _, j := range a.jobs {
		part, err := json.Marshal(map[string]any{j.Name(): j.Status()})
		if err != nil {
			return nil, err
		}
		b.WriteByte(',')
		b.Write(part[1 : len(part)-1])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// status returns the answer to /status.
func (d *daemon) status() answer {
	s := Status{
		Version:       d.version,
		Started:       d.started,
		UptimeSeconds: time.Since(d.started).Seconds(),
		Endpoints:     []Endpoint{},
		Security:      d.access.status(),
		Memory:        newMemoryStatus(d.memory.Stats()),
	}
	if err := d.notReady(); err != nil {
		s.NotReady = err.Error()
	} else {
		s.Ready = true
	}
	if d.ready.Load() {
		s.Endpoints = d.endpoints
	}
	return answer{s, d.jobs}
}

// Traffic counts messages in one direction. Bytes are those of the parts, without framing.
type Traffic struct {
	Messages uint64 `json:"messages"`
	Parts    uint64 `json:"parts"`
	Bytes    uint64 `json:"bytes"`
}

// SocketStatus is the state of one socket.
type SocketStatus struct {
	Received          Traffic           `json:"received"`
	Sent              Traffic           `json:"sent"`
	Dropped           map[string]uint64 `json:"dropped,omitempty"` // messages by reason
	HandshakeFailures map[string]uint64 `json:"handshake_failures,omitempty"`
	Closed            map[string]uint64 `json:"closed,omitempty"` // connections by reason
	PendingHandshakes int               `json:"pending_handshakes"`
	ReceiveQueue      int               `json:"receive_queue"` // messages
	Peers             []PeerStatus      `json:"peers"`
}

// PeerStatus is the state of one connection.
type PeerStatus struct {
	Address    string     `json:"address"`
	Endpoint   string     `json:"endpoint"` // ours
	Type       string     `json:"type,omitempty"`
	Client     string     `json:"client,omitempty"` // authenticated name, if any
	Node       string     `json:"node,omitempty"`   // Zeek's node id, if it is known
	Since      time.Time  `json:"since"`
	Received   Traffic    `json:"received"`
	Sent       Traffic    `json:"sent"`
	Queue      int        `json:"queue"` // messages that wait for it
	QueueBytes int64      `json:"queue_bytes"`
	Topics     int        `json:"topics,omitempty"`     // subscribed
	SlowSince  *time.Time `json:"slow_since,omitempty"` // of a subscriber that does not keep up

	Dropped map[string]uint64 `json:"dropped,omitempty"` // messages for it, by reason
	Account *DeliveryStatus   `json:"account,omitempty"` // of a subscriber

	Role        string `json:"role,omitempty"`         // at the broker: publisher or subscriber
	ReceiveRate *Rate  `json:"receive_rate,omitempty"` // since the last answer
	SendRate    *Rate  `json:"send_rate,omitempty"`    // since the last answer
	// BlockedSeconds is the time for which publishers waited for a subscriber, or for which zmtpd
	// did not read from a publisher or node.
	BlockedSeconds float64 `json:"blocked_seconds,omitempty"`
}

// NewSocketStatus returns the status of a socket without its peers.
func NewSocketStatus(s zmtp.Stats) SocketStatus {
	return SocketStatus{
		Received:          Traffic(s.In),
		Sent:              Traffic(s.Out),
		Dropped:           DropsByName(s.Dropped),
		HandshakeFailures: ByName(s.HandshakeFailures),
		Closed:            ByName(s.Closed),
		PendingHandshakes: s.PendingHandshakes,
		ReceiveQueue:      s.RecvQueued,
		Peers:             []PeerStatus{},
	}
}

// NewPeerStatus returns the status of a peer of any socket.
func NewPeerStatus(p zmtp.PeerStats) PeerStatus {
	s := PeerStatus{
		Endpoint:   p.Endpoint,
		Type:       string(p.SocketType),
		Client:     p.UserID,
		Since:      p.Since,
		Received:   Traffic(p.In),
		Sent:       Traffic(p.Out),
		Queue:      p.Queued,
		QueueBytes: p.QueuedBytes,
		Dropped:    DropsByName(p.Dropped),
	}
	if p.Remote != nil {
		s.Address = p.Remote.String()
	}
	return s
}

// SortPeers sorts peers by the age of their connections, the oldest first.
func SortPeers(peers []PeerStatus) []PeerStatus {
	slices.SortFunc(peers, func(a, b PeerStatus) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Address, b.Address))
	})
	return peers
}

// DropsByName returns the counters that are not 0, by the reason's name.
func DropsByName(drops zmtp.Drops) map[string]uint64 {
	named := map[string]uint64{}
	for r, n := range drops.ByReason() {
		named[r.String()] = n
	}
	return named
}

// ByName returns the counters that are not 0, by the reason's name.
func ByName[R interface {
	comparable
	String() string
}](counts map[R]uint64) map[string]uint64 {
	named := map[string]uint64{}
	for reason, n := range counts {
		if n > 0 {
			named[reason.String()] += n
		}
	}
	return named
}

// DeliveryStatus accounts for the messages for subscribers: matched = delivered + queued + held +
// dropped.
type DeliveryStatus struct {
	Matched   uint64            `json:"matched"`
	Delivered uint64            `json:"delivered"`
	Queued    uint64            `json:"queued"`
	Held      uint64            `json:"held"`
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // by reason
}

// Rate is traffic per second. Bytes are those of the parts, without framing.
type Rate struct {
	Messages float64 `json:"messages"`
	Bytes    float64 `json:"bytes"`
}
