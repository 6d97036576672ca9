package main

import (
	"cmp"
	"slices"
	"time"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// status is the answer to /status.
type status struct {
	Version       string           `json:"version"`
	Started       time.Time        `json:"started"`
	UptimeSeconds float64          `json:"uptime_seconds"`
	Ready         bool             `json:"ready"`
	Endpoints     []listening      `json:"endpoints"`
	Security      *securityStatus  `json:"security"`
	Forwarder     *forwarderStatus `json:"forwarder,omitempty"`
	Logger        *loggerStatus    `json:"logger,omitempty"`
	Balance       *balanceStatus   `json:"balance,omitempty"`
}

func (d *daemon) statusNow() *status {
	s := &status{
		Version:       versionString(),
		Started:       d.started,
		UptimeSeconds: time.Since(d.started).Seconds(),
		Ready:         d.isReady(),
		Endpoints:     []listening{},
		Security:      d.security.status(),
	}
	if d.ready.Load() {
		s.Endpoints = d.endpoints
	}
	for _, j := range d.jobs {
		j.status(s)
	}
	return s
}

// traffic is what went in one direction. Bytes are those of the parts.
type traffic struct {
	Messages uint64 `json:"messages"`
	Parts    uint64 `json:"parts"`
	Bytes    uint64 `json:"bytes"`
}

// socketStatus is about all connections of one socket.
type socketStatus struct {
	Received          traffic           `json:"received"`
	Sent              traffic           `json:"sent"`
	Dropped           map[string]uint64 `json:"dropped,omitempty"` // messages by reason
	HandshakeFailures map[string]uint64 `json:"handshake_failures,omitempty"`
	Closed            map[string]uint64 `json:"closed,omitempty"` // connections by reason
	PendingHandshakes int               `json:"pending_handshakes"`
	ReceiveQueue      int               `json:"receive_queue"` // messages
	Peers             []peerStatus      `json:"peers"`
}

// peerStatus is about one connection.
type peerStatus struct {
	Address    string     `json:"address"`
	Endpoint   string     `json:"endpoint"` // ours
	Type       string     `json:"type,omitempty"`
	Client     string     `json:"client,omitempty"` // who it is, if that was asked
	Node       string     `json:"node,omitempty"`   // Zeek's node id, if it is known
	Since      time.Time  `json:"since"`
	Received   traffic    `json:"received"`
	Sent       traffic    `json:"sent"`
	Queue      int        `json:"queue"` // messages that wait for it
	QueueBytes int64      `json:"queue_bytes"`
	Topics     int        `json:"topics,omitempty"`     // that it subscribed
	SlowSince  *time.Time `json:"slow_since,omitempty"` // a subscriber: since when it has not kept up

	Dropped map[string]uint64 `json:"dropped,omitempty"` // messages that were meant for it, by reason
	Account *deliveryStatus   `json:"account,omitempty"` // a subscriber: what became of the messages for it

	Role           string  `json:"role,omitempty"`            // publisher or subscriber, of the broker's
	ReceiveRate    *rate   `json:"receive_rate,omitempty"`    // per second, since the last answer
	SendRate       *rate   `json:"send_rate,omitempty"`       // likewise
	BlockedSeconds float64 `json:"blocked_seconds,omitempty"` // a subscriber: for how long publishers waited for it; a publisher: for how long it was not read
}

func newSocketStatus(s zmtp.Stats) socketStatus {
	return socketStatus{
		Received:          traffic(s.In),
		Sent:              traffic(s.Out),
		Dropped:           byName(s.Dropped),
		HandshakeFailures: byName(s.HandshakeFailures),
		Closed:            byName(s.Closed),
		PendingHandshakes: s.PendingHandshakes,
		ReceiveQueue:      s.RecvQueued,
		Peers:             []peerStatus{},
	}
}

func newPeerStatus(p zmtp.PeerStats) peerStatus {
	s := peerStatus{
		Endpoint:   p.Endpoint,
		Type:       string(p.SocketType),
		Client:     p.UserID,
		Since:      p.Since,
		Received:   traffic(p.In),
		Sent:       traffic(p.Out),
		Queue:      p.Queued,
		QueueBytes: p.QueuedBytes,
		Dropped:    dropsByName(p.DroppedBy),
	}
	if p.Remote != nil {
		s.Address = p.Remote.String()
	}
	return s
}

// sortPeers puts those that are there longest first.
func sortPeers(peers []peerStatus) []peerStatus {
	slices.SortFunc(peers, func(a, b peerStatus) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Address, b.Address))
	})
	return peers
}

// dropsByName returns counters without those that are 0.
func dropsByName(drops zmtp.Drops) map[string]uint64 {
	var named map[string]uint64
	for r, n := range drops {
		if n == 0 {
			continue
		}
		if named == nil {
			named = map[string]uint64{}
		}
		named[zmtp.DropReason(r).String()] = n
	}
	return named
}

// byName returns counters without those that are 0.
func byName[R interface {
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

// forwarderStatus is about the broker.
type forwarderStatus struct {
	Topics    int          `json:"topics"`    // distinct topics that are subscribed
	Unmatched uint64       `json:"unmatched"` // messages that nobody had subscribed
	XSub      socketStatus `json:"xsub"`      // publishers
	XPub      socketStatus `json:"xpub"`      // subscribers, the slowest first
	// ByTopic has the classes of topics that were published.
	ByTopic map[string]topicStatus `json:"by_topic"`
	// What became of the messages from publishers, of those from subscribers, and of those for subscribers.
	Received receivedStatus `json:"received"`
	Upstream receivedStatus `json:"upstream"`
	Account  deliveryStatus `json:"account"`
	Tap      *tapStatus     `json:"tap,omitempty"`
	// Denied is what clients were not allowed to do, by name.
	Denied map[string]deniedStatus `json:"denied,omitempty"`
}

// receivedStatus is what became of the messages from one side: messages = routed + unmatched + denied.
type receivedStatus struct {
	Messages  uint64 `json:"messages"`
	Routed    uint64 `json:"routed"`
	Unmatched uint64 `json:"unmatched"`
	Denied    uint64 `json:"denied"`
}

// deliveryStatus is what became of messages for subscribers: matched = delivered + queued + held + dropped.
type deliveryStatus struct {
	Matched   uint64            `json:"matched"`
	Delivered uint64            `json:"delivered"`
	Queued    uint64            `json:"queued"`
	Held      uint64            `json:"held"`
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // by reason
}

func newDeliveryStatus(a forwarder.Account) deliveryStatus {
	return deliveryStatus{a.Matched, a.Delivered, a.Queued, a.Held, dropsByName(a.Dropped)}
}

type topicStatus struct {
	Messages  uint64            `json:"messages"`
	Bytes     uint64            `json:"bytes"`
	Unmatched uint64            `json:"unmatched"`
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // by reason
}

type deniedStatus struct {
	Messages      uint64 `json:"messages"`
	Subscriptions uint64 `json:"subscriptions"`
}

func newForwarderStatus(st forwarder.Stats, meter *rateMeter, now time.Time) *forwarderStatus {
	s := &forwarderStatus{
		Topics:    st.Topics,
		Unmatched: st.Received.Unmatched,
		XSub:      newSocketStatus(st.XSub),
		XPub:      newSocketStatus(st.XPub),
		ByTopic:   map[string]topicStatus{},
		Received:  receivedStatus(st.Received),
		Upstream:  receivedStatus(st.Upstream),
		Account:   newDeliveryStatus(st.Account),
	}
	for topic, t := range st.ByTopic {
		s.ByTopic[topic] = topicStatus{t.Messages, t.Bytes, t.Unmatched, dropsByName(t.Dropped)}
	}
	for client, d := range st.Denied {
		if s.Denied == nil {
			s.Denied = map[string]deniedStatus{}
		}
		s.Denied[client] = deniedStatus(d)
	}
	all := map[peerKey]zmtp.PeerStats{}
	publishers, subscribers := peersOfSides(st)
	for _, p := range publishers {
		all[peerKey{"xsub", p.ID}] = p
	}
	for _, p := range subscribers {
		all[peerKey{"xpub", p.ID}] = p
	}
	rates := meter.measure(now, all)
	peer := func(socket, role, node string, p zmtp.PeerStats, blocked time.Duration) peerStatus {
		ps := newPeerStatus(p)
		ps.Role, ps.Node, ps.BlockedSeconds = role, node, blocked.Seconds()
		if r, ok := rates[peerKey{socket, p.ID}]; ok {
			ps.ReceiveRate, ps.SendRate = &r[0], &r[1]
		}
		return ps
	}
	for _, p := range st.Publishers {
		s.XSub.Peers = append(s.XSub.Peers, peer("xsub", "publisher", p.NodeID, p.PeerStats, p.Blocked))
	}
	sortPeers(s.XSub.Peers)
	slowest := slices.Clone(st.Subscribers)
	slices.SortFunc(slowest, slowestFirst)
	for _, p := range slowest {
		ps := peer("xpub", "subscriber", p.NodeID, p.PeerStats, p.Blocked)
		ps.Topics = p.Topics
		account := newDeliveryStatus(p.Account)
		ps.Account = &account
		if !p.SlowSince.IsZero() {
			ps.SlowSince = &p.SlowSince
		}
		s.XPub.Peers = append(s.XPub.Peers, ps)
	}
	return s
}
