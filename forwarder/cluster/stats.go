package cluster

import (
	"fmt"
	"sync/atomic"

	"zmtpd/zmtp"
)

// DropReason is why an event that was received did not reach its handlers.
type DropReason uint8

// The reasons.
const (
	BadParts      DropReason = iota // the message does not have four parts
	BadSerializer                   // it is in neither of Zeek's two formats
	BadEvent                        // its last part is no event
	BadArguments                    // a handler takes other arguments
	QueueFull                       // the handlers did not keep up
	AtEnd                           // it waited for its handlers when the node left
)

var dropNames = []string{"bad_parts", "bad_serializer", "bad_event", "bad_arguments", "queue_full",
	"at_end"}

// String returns the name of the reason: lower case, with underscores.
func (r DropReason) String() string {
	if int(r) < len(dropNames) {
		return dropNames[r]
	}
	return fmt.Sprintf("drop_%d", uint8(r))
}

// Drops are numbers of events that were dropped, by DropReason.
type Drops [AtEnd + 1]uint64

// Total returns their sum.
func (d Drops) Total() (n uint64) {
	for _, one := range d {
		n += one
	}
	return n
}

// Stats are the counters of a node. Received = Own + Hellos + Unhandled + Handled + Dropped +
// Queued, except while an event is on its way from one to the other.
type Stats struct {
	Received  uint64 // messages
	Own       uint64 // published by this node, which ignores them
	Hellos    uint64 // of the handshake, and announcements that the cluster has started
	Unhandled uint64 // without a handler
	Handled   uint64 // all handlers have returned
	Queued    int    // events that wait for the handlers
	Dropped   Drops
	Published uint64 // events, those of the handshake included

	Refused      Refusals // hellos
	LostStatuses uint64   // changes in the cluster of which Config.Status was not told
	Peers        int      // nodes that are up
	Started      bool     // the manager has announced that the cluster has started

	XPub, XSub zmtp.Stats
}

// counters are those of Stats that change without a lock.
type counters struct {
	received, own, hellos, unhandled, handled, published, lostStatuses atomic.Uint64

	dropped [AtEnd + 1]atomic.Uint64
}

// Stats returns a snapshot of the counters.
func (n *Node) Stats() Stats {
	c := &n.counts
	st := Stats{Received: c.received.Load(), Own: c.own.Load(), Hellos: c.hellos.Load(),
		Unhandled: c.unhandled.Load(), Handled: c.handled.Load(), Queued: n.queued(),
		Published: c.published.Load(), LostStatuses: c.lostStatuses.Load(),
		XPub: n.xpub.Stats(), XSub: n.xsub.Stats()}
	for r := range st.Dropped {
		st.Dropped[r] = c.dropped[r].Load()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st.Refused, st.Peers, st.Started = n.members.refusals, len(n.members.peers), n.started
	return st
}

// drop counts an event that was dropped, and logs the first of each sender.
func (n *Node) drop(why DropReason, node string, err error) {
	n.counts.dropped[why].Add(1)
	if more, ok := n.limit.Admit(why.String(), node); ok {
		n.log.Warn("an event is dropped; more of this node are counted only",
			"reason", why.String(), "node", node, "err", err, "not_logged", more)
	}
}

// queued returns the number of events that wait for the handlers.
func (n *Node) queued() int {
	n.queue.mu.Lock()
	defer n.queue.mu.Unlock()
	return n.waiting.events
}
