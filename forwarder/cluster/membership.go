package cluster

import (
	"fmt"
	"strings"
	"time"
)

// Events of the handshake, and what a node tells the manager when it has completed it with all
// others (scripts/policy/frameworks/cluster/experimental.zeek).
const (
	helloFirst     = "Cluster::Backend::ZeroMQ::hello"
	helloSecond    = "Cluster::hello"
	fullyConnected = "Cluster::Experimental::node_fully_connected"
	clusterStarted = "Cluster::Experimental::cluster_started"
)

// Bounds on what others can make a node hold.
const (
	maxPeers        = 4096 // nodes that can be seen at a time
	maxIDSize       = 1024 // of a node id, in bytes
	helloExpiration = 10 * time.Second
)

// Refusal is why a hello was not taken.
type Refusal uint8

// The refusals.
const (
	BadHello      Refusal = iota // its arguments are not a name and an id
	TooLong                      // name or id has more bytes than the limit
	TooMany                      // there are as many nodes as a Node can hold
	UnknownName                  // no node of the layout has the name
	DuplicateName                // another process with the name is up and has not been replaced
	Repeated                     // the node is up
	NotSubscribed                // the topic of the id is not subscribed
	NotForUs                     // it was not said to the present id of this node
	Expired                      // the other half of the handshake did not come within 10 s
	Unanswered                   // the broker took nothing, and too many answers wait
)

var refusalNames = []string{"bad_hello", "too_long", "too_many", "unknown_name", "duplicate_name",
	"repeated", "not_subscribed", "not_for_us", "expired", "unanswered"}

// String returns the name of the refusal: lower case, with underscores.
func (r Refusal) String() string { return refusalNames[r] }

// Refusals are numbers of hellos that were not taken, by Refusal.
type Refusals [Unanswered + 1]uint64

// greeting is an event of the handshake to be sent.
type greeting struct {
	event string // helloFirst, helloSecond or fullyConnected
	to    string // the id of a node, empty with fullyConnected
}

// membership is what a node knows of the others. It does no I/O and has no clock. It follows the
// scripts of Zeek, policy/frameworks/cluster/backend/zeromq/main.zeek and
// base/frameworks/cluster/main.zeek: a node says the first hello to each node id whose topic is
// subscribed, and the second when it has also received the first one from there. A peer is up when
// its second hello has come, and down when its topic is no longer subscribed.
//
// Unlike Zeek, it takes the second hello only of an id whose topic is subscribed, so that every
// peer that is up will be down, and keeps the peer that is up if another id has the same name but
// has not said the first hello. When the others may have lost this node, it begins again with a new
// id: a node that is up does not answer when the same id says hello again.
type membership struct {
	self    Peer                 // Name is empty for a passive node
	layout  *Layout              // nil: any name
	max     int                  // peers, or halves of handshakes
	visible map[string]struct{}  // ids whose topic is subscribed, without the own
	greeted map[string]time.Time // ids to which only the first hello was sent
	heard   map[string]time.Time // ids whose first hello came before their subscription
	peers   map[string]Peer      // that are up, by id
	names   map[string]string    // ids of those by name; empty for a passive node
	away    bool                 // the others may have lost this node, see renew
	base    string               // with which all ids of this node begin
	renewed int                  // how often the id was replaced
	expired time.Time            // of the last call of expire that had an effect

	// Results of the last call.
	oldID     string // that was replaced, empty for none
	greetings []greeting
	statuses  []Status
	refused   []refused
	refusals  Refusals // in total
}

// refused is a hello that was not taken.
type refused struct {
	why      Refusal
	name, id string
}

func newMembership(self Peer, layout *Layout) *membership {
	return &membership{self: self, base: self.ID, layout: layout, max: maxPeers,
		visible: map[string]struct{}{}, greeted: map[string]time.Time{},
		heard: map[string]time.Time{}, peers: map[string]Peer{}, names: map[string]string{}}
}

func (m *membership) passive() bool { return m.self.Name == "" }

// own reports whether an id is, or was, that of this node.
func (m *membership) own(id string) bool { return strings.HasPrefix(id, m.base) }

// noticed takes a subscription of some topic at the broker, or its end. lost reports that it has
// ended with this node's connection to the broker, again that it is the first of a new connection.
func (m *membership) noticed(topic []byte, on, lost, again bool, now time.Time) {
	if again {
		m.lost()
	}
	if id, ok := idOfTopic(topic); ok && on {
		m.subscribed(id, now)
	} else if ok {
		m.unsubscribed(id, lost, now)
	}
	if !lost {
		m.renew(now)
	}
}

// subscribed takes the subscription of the topic of a node id.
func (m *membership) subscribed(id string, now time.Time) {
	m.expire(now)
	if m.own(id) {
		return
	}
	if _, seen := m.visible[id]; seen {
		return
	}
	switch {
	case len(id) > maxIDSize:
		m.refuse(TooLong, "", id)
		return
	case len(m.visible) == m.max:
		m.refuse(TooMany, "", id)
		return
	}
	m.visible[id] = struct{}{}
	if m.passive() {
		m.up(NameInID(id), id, now)
	} else if !m.away {
		m.greet(id, now)
	}
}

// greet begins or continues the handshake with a node whose topic is subscribed.
func (m *membership) greet(id string, now time.Time) {
	m.greetings = append(m.greetings, greeting{helloFirst, id})
	if _, heard := m.heard[id]; heard {
		delete(m.heard, id)
		m.greetings = append(m.greetings, greeting{helloSecond, id})
	} else {
		m.greeted[id] = now
	}
}

// unsubscribed takes the end of the subscription of the topic of a node id. broker reports that it
// ended with this node's own connection to the broker.
func (m *membership) unsubscribed(id string, broker bool, now time.Time) {
	m.expire(now)
	cause := Unsubscribed
	if broker {
		cause = BrokerLost
	}
	if m.own(id) {
		if id == m.self.ID && !m.passive() {
			m.lost()
		}
		return
	}
	delete(m.visible, id)
	delete(m.greeted, id)
	delete(m.heard, id)
	m.down(id, PeerLost, cause)
}

// lost takes that the others may have lost this node, because it has lost the broker.
func (m *membership) lost() {
	m.away = true
	m.loseAll(PeerLost, BrokerLost)
}

// renew gives this node a new id if the others may have lost it, and begins the handshake with all.
// It is to be called while there is a connection to the broker.
func (m *membership) renew(now time.Time) {
	if !m.away || m.passive() {
		return
	}
	m.away = false
	m.renewed++
	m.oldID, m.self.ID = m.self.ID, fmt.Sprintf("%s-%d", m.base, m.renewed)
	clear(m.greeted)
	clear(m.heard)
	for id := range m.visible {
		m.greet(id, now)
	}
}

// first takes the first hello of a node, which must have been said to the present id of this one.
func (m *membership) first(name, id string, now time.Time) {
	if !m.hears(name, id, now) {
		return
	}
	if other, up := m.names[name]; up {
		if other == id {
			m.refuse(Repeated, name, id)
			return
		}
		m.down(other, PeerRemoved, Replaced)
	}
	if _, greeted := m.greeted[id]; greeted {
		delete(m.greeted, id)
		m.greetings = append(m.greetings, greeting{helloSecond, id})
		return
	}
	if len(m.heard) == m.max {
		// In any order. Of an honest node, the subscription follows within milliseconds.
		for other := range m.heard {
			delete(m.heard, other)
			m.refuse(TooMany, "", other)
			break
		}
	}
	m.heard[id] = now
}

// second takes the second hello of a node, which must have been said to the present id of this one.
func (m *membership) second(name, id string, now time.Time) {
	if !m.hears(name, id, now) {
		return
	}
	_, visible := m.visible[id]
	_, up := m.peers[id]
	_, taken := m.names[name]
	switch {
	case name == "" || !m.layout.has(name):
		m.refuse(UnknownName, name, id)
	case !visible || m.away:
		m.refuse(NotSubscribed, name, id)
	case up:
		m.refuse(Repeated, name, id)
	case taken:
		m.refuse(DuplicateName, name, id)
	default:
		m.up(name, id, now)
	}
}

// bad takes a hello whose arguments are not a name and an id.
func (m *membership) bad() { m.refuse(BadHello, "", "") }

// leave takes that this node leaves the cluster.
func (m *membership) leave() { m.loseAll(PeerRemoved, Left) }

// hears reports whether a hello is for this node and within the limits. A passive node hears what
// is said to others, and learns names from it.
func (m *membership) hears(name, id string, now time.Time) bool {
	m.expire(now)
	switch {
	case m.own(id):
	case len(name) > maxNameSize || len(id) > maxIDSize:
		m.refuse(TooLong, name, id)
	case m.passive():
		if p, up := m.peers[id]; up && name != "" {
			p.Name = name
			m.peers[id] = p
		}
	default:
		return true
	}
	return false
}

func (m *membership) refuse(why Refusal, name, id string) {
	m.refusals[why]++
	m.refused = append(m.refused, refused{why, name[:min(len(name), 80)], id[:min(len(id), 80)]})
}

func (m *membership) up(name, id string, now time.Time) {
	p := Peer{Name: name, ID: id, Since: now}
	m.peers[id] = p
	if !m.passive() {
		m.names[name] = id
	}
	m.statuses = append(m.statuses, Status{Kind: PeerAdded, Peer: p})
}

// down ends the peer with an id, if it is up.
func (m *membership) down(id string, kind StatusKind, cause Cause) {
	p, up := m.peers[id]
	if !up {
		return
	}
	delete(m.peers, id)
	delete(m.names, p.Name)
	m.statuses = append(m.statuses, Status{kind, cause, p})
}

func (m *membership) loseAll(kind StatusKind, cause Cause) {
	for id := range m.peers {
		m.down(id, kind, cause)
	}
}

// expire forgets halves of handshakes that are older than helloExpiration. It looks once a second.
func (m *membership) expire(now time.Time) {
	if now.Sub(m.expired) < time.Second {
		return
	}
	m.expired = now
	for _, halves := range []map[string]time.Time{m.greeted, m.heard} {
		for id, since := range halves {
			if now.Sub(since) <= helloExpiration {
				continue
			}
			delete(halves, id)
			m.refuse(Expired, "", id)
		}
	}
}
