package cluster

import (
	"fmt"
	"time"
)

// Peer is another node of the cluster.
type Peer struct {
	Name  string    // in Cluster::nodes; a passive node knows it from the id only, see NameInID
	ID    string    // of this process of the node
	Since time.Time // when it came up
}

// StatusKind is what happened in the cluster.
type StatusKind uint8

// The kinds, with the names of Broker's status events where it has them.
const (
	// PeerAdded: the handshake with a node is complete (Cluster::node_up). For a passive node: the
	// node has subscribed its topic.
	PeerAdded   StatusKind = iota
	PeerLost               // a node is gone (Cluster::node_down)
	PeerRemoved            // a node is no longer a peer, because this one or its successor says so
	// ClusterStarted: the manager has announced that all nodes see each other
	// (Cluster::Experimental::cluster_started).
	ClusterStarted
)

var statusNames = []string{"peer_added", "peer_lost", "peer_removed", "cluster_started"}

// String returns the name of the kind: lower case, with underscores.
func (k StatusKind) String() string {
	if int(k) < len(statusNames) {
		return statusNames[k]
	}
	return fmt.Sprintf("status_%d", uint8(k))
}

// Cause is why a peer was lost or removed.
type Cause uint8

// The causes.
const (
	NoCause Cause = iota
	// Unsubscribed: the broker has said that the node's subscription has ended. Nodes say no
	// goodbye, so that may be an orderly end as well as a crash or a lost connection.
	Unsubscribed
	BrokerLost // this node has lost its own connection to the broker, and with it all peers
	Replaced   // another process has said hello with the same name
	Left       // this node leaves the cluster
)

var causeNames = []string{"", "unsubscribed", "broker_lost", "replaced", "left"}

// String returns the name of the cause: lower case, with underscores, empty for none.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("cause_%d", uint8(c))
}

// Status is a change in the cluster.
type Status struct {
	Kind  StatusKind
	Cause Cause
	Peer  Peer
}

// String returns the status as a line of text.
func (s Status) String() string {
	text := s.Kind.String()
	if s.Peer != (Peer{}) {
		text += fmt.Sprintf(" %s (%s)", s.Peer.Name, s.Peer.ID)
	}
	if s.Cause != NoCause {
		text += ": " + s.Cause.String()
	}
	return text
}
