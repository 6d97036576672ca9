package main

import (
	"slices"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// forwarderStatus is the part of /status about the broker.
type forwarderStatus struct {
	Topics    int                 `json:"topics"`    // distinct, subscribed
	Unmatched uint64              `json:"unmatched"` // messages without a subscriber
	XSub      daemon.SocketStatus `json:"xsub"`      // publishers
	XPub      daemon.SocketStatus `json:"xpub"`      // subscribers, the slowest first
	// ByTopic has the published topics by class.
	ByTopic map[string]topicStatus `json:"by_topic"`
	// Accounts of the messages from publishers, from subscribers, and for subscribers.
	Received receivedStatus        `json:"received"`
	Upstream receivedStatus        `json:"upstream"`
	Account  daemon.DeliveryStatus `json:"account"`
	Tap      *tapStatus            `json:"tap,omitempty"`
	// WebSocket are the clients of --websocket.
	WebSocket *gatewayStatus `json:"websocket,omitempty"`
	// Denied has the messages and subscriptions that were denied, by client.
	Denied map[string]deniedStatus `json:"denied,omitempty"`
}

// receivedStatus accounts for the messages from one side: messages = routed + unmatched + denied.
type receivedStatus struct {
	Messages  uint64 `json:"messages"`
	Routed    uint64 `json:"routed"`
	Unmatched uint64 `json:"unmatched"`
	Denied    uint64 `json:"denied"`
}

func newDeliveryStatus(a forwarder.Account) daemon.DeliveryStatus {
	return daemon.DeliveryStatus{
		Matched: a.Matched, Delivered: a.Delivered, Queued: a.Queued, Held: a.Held,
		Dropped: daemon.DropsByName(a.Dropped),
	}
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
		XSub:      daemon.NewSocketStatus(st.XSub),
		XPub:      daemon.NewSocketStatus(st.XPub),
		ByTopic:   map[string]topicStatus{},
		Received:  receivedStatus(st.Received),
		Upstream:  receivedStatus(st.Upstream),
		Account:   newDeliveryStatus(st.Account),
	}
	for topic, t := range st.ByTopic {
		s.ByTopic[topic] = topicStatus{t.Messages, t.Bytes, t.Unmatched,
			daemon.DropsByName(t.Dropped)}
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
	peer := func(socket, role, node string, p zmtp.PeerStats,
		blocked time.Duration) daemon.PeerStatus {
		ps := daemon.NewPeerStatus(p)
		ps.Role, ps.Node, ps.BlockedSeconds = role, node, blocked.Seconds()
		if r, ok := rates[peerKey{socket, p.ID}]; ok {
			ps.ReceiveRate, ps.SendRate = &r[0], &r[1]
		}
		return ps
	}
	for _, p := range st.Publishers {
		s.XSub.Peers = append(s.XSub.Peers,
			peer("xsub", "publisher", p.NodeID, p.PeerStats, p.Blocked))
	}
	daemon.SortPeers(s.XSub.Peers)
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
