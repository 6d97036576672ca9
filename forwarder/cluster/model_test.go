package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// model is a broker and nodes whose messages and subscriptions arrive in any order that their
// connections allow.
type model struct {
	*rand.Rand
	nodes []*modelNode
	at    map[string]*modelNode // nodes by the id that the broker has a subscription of
	made  int                   // processes of nodes
}

// modelNode is a node with its two connections. What is under way on them is lost when they break.
type modelNode struct {
	*membership
	m     *model
	topic string // the id that the node wants to be subscribed

	up     []modelSubscription // on the way from its XSUB to the broker
	events []modelEvent        // on the way from its XPUB to the broker
	down   []modelSubscription // on the way from the broker to its XPUB
	seen   []modelSubscription // read by its XPUB, and not by the node
	in     []modelEvent        // on the way from the broker to its XSUB, and in its queue
	knows  map[string]bool     // ids whose subscription its XPUB has read
}

type modelSubscription struct {
	id              string
	on, lost, again bool
}

type modelEvent struct{ event, to, name, id string }

// start begins a process of a node.
func (m *model) start(i int) {
	m.made++
	name := fmt.Sprintf("node-%d", i)
	id := fmt.Sprintf("zeromq_%s_h_%d_N", name, m.made)
	n := &modelNode{membership: newMembership(Peer{Name: name, ID: id}, nil), m: m, topic: id,
		knows: map[string]bool{}}
	m.nodes[i] = n
	n.connectXSub()
	n.connectXPub(false)
}

func (n *modelNode) connectXSub() { n.up = append(n.up, modelSubscription{id: n.topic, on: true}) }

// connectXPub makes the broker tell the node what is subscribed.
func (n *modelNode) connectXPub(again bool) {
	ids := slices.Sorted(maps.Keys(n.m.at))
	n.m.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	// Some other topic is always subscribed.
	for _, id := range append(ids, "") {
		n.down = append(n.down, modelSubscription{id: id, on: true, again: again})
		again = false
	}
}

// breakXSub breaks the connection of the XSUB, which connects again.
func (n *modelNode) breakXSub() {
	n.up, n.in = nil, nil
	for id, at := range n.m.at {
		if at == n {
			n.m.cancelled(id)
		}
	}
}

// breakXPub breaks the connection of the XPUB.
func (n *modelNode) breakXPub() {
	n.down, n.events = nil, nil
	for _, id := range slices.Sorted(maps.Keys(n.knows)) {
		n.seen = append(n.seen, modelSubscription{id: id, lost: true})
	}
	clear(n.knows)
}

func (m *model) cancelled(id string) {
	delete(m.at, id)
	for _, n := range m.nodes {
		n.down = append(n.down, modelSubscription{id: id})
	}
}

// end ends the process of a node.
func (n *modelNode) end() {
	n.breakXSub()
	n.events = nil
}

// step lets one thing arrive, and reports whether anything was under way.
func (m *model) step() bool {
	for _, i := range m.Perm(5 * len(m.nodes)) {
		n := m.nodes[i/5]
		switch i % 5 {
		case 0:
			if s, ok := pop(&n.up); ok {
				m.subscribe(n, s)
				return true
			}
		case 1:
			if e, ok := pop(&n.events); ok {
				if to := m.at[e.to]; to != nil {
					to.in = append(to.in, e)
				}
				return true
			}
		case 2:
			if s, ok := pop(&n.down); ok {
				if s.on {
					n.knows[s.id] = true
				} else {
					delete(n.knows, s.id)
				}
				n.seen = append(n.seen, s)
				return true
			}
		case 3:
			if s, ok := pop(&n.seen); ok {
				n.noticed([]byte(NodeIDTopic(s.id)), s.on, s.lost, s.again, modelTime)
				n.act()
				return true
			}
		case 4:
			if e, ok := pop(&n.in); ok {
				n.take(e)
				return true
			}
		}
	}
	return false
}

var modelTime = time.Unix(1e9, 0) // handshakes do not expire

func (m *model) subscribe(n *modelNode, s modelSubscription) {
	if !s.on {
		if m.at[s.id] == n {
			m.cancelled(s.id)
		}
		return
	}
	m.at[s.id] = n
	for _, other := range m.nodes {
		other.down = append(other.down, s)
	}
}

// take gives a hello to the node, as Node.hello does.
func (n *modelNode) take(e modelEvent) {
	switch {
	case e.to != n.self.ID:
	case e.event == helloFirst:
		n.first(e.name, e.id, modelTime)
	default:
		n.second(e.name, e.id, modelTime)
	}
	n.act()
}

// act does what follows from the last call, as Node.apply does.
func (n *modelNode) act() {
	if n.oldID != "" {
		n.topic = n.self.ID
		n.up = append(n.up, modelSubscription{id: n.oldID},
			modelSubscription{id: n.topic, on: true})
		n.oldID = ""
	}
	for _, g := range n.greetings {
		if n.knows[g.to] { // an XPUB sends what is subscribed
			n.events = append(n.events, modelEvent{g.event, g.to, n.self.Name, n.self.ID})
		}
	}
	n.greetings, n.statuses, n.refused = nil, nil, nil
}

func pop[T any](queue *[]T) (first T, ok bool) {
	if len(*queue) == 0 {
		return first, false
	}
	first, *queue = (*queue)[0], (*queue)[1:]
	return first, true
}

// Whatever breaks, and in whatever order things arrive: in the end all nodes see each other, with
// their present ids, and nobody else.
func TestNodesMeetInAnyOrder(t *testing.T) {
	seeds := uint64(1000)
	if testkit.Nightly() {
		seeds = 50_000
	}
	for seed := range seeds {
		m := &model{Rand: rand.New(rand.NewPCG(seed, 0)), at: map[string]*modelNode{}}
		m.nodes = make([]*modelNode, 2+m.IntN(3))
		for i := range m.nodes {
			m.nodes[i] = &modelNode{m: m, membership: newMembership(Peer{}, nil)}
		}
		for i := range m.nodes {
			m.start(i)
		}
		var story []string
		for range m.IntN(6) {
			for range m.IntN(40) {
				m.step()
			}
			i := m.IntN(len(m.nodes))
			n := m.nodes[i]
			switch what := m.IntN(3); what {
			case 0:
				story = append(story, fmt.Sprintf("the XSUB of %s breaks", n.self.ID))
				n.breakXSub()
				n.connectXSub()
			case 1:
				story = append(story, fmt.Sprintf("the XPUB of %s breaks", n.self.ID))
				n.breakXPub()
				n.connectXPub(true)
			case 2:
				story = append(story, fmt.Sprintf("%s is replaced", n.self.ID))
				n.end()
				m.start(i)
			}
		}
		for m.step() {
		}
		for _, n := range m.nodes {
			for _, other := range m.nodes {
				if _, up := n.peers[other.self.ID]; up == (n == other) {
					t.Errorf("seed %d, %s: %s sees %s: %t, %v", seed, strings.Join(story, ", "),
						n.self.ID, other.self.ID, up, n.refusals)
				}
			}
			if len(n.peers) != len(m.nodes)-1 {
				t.Errorf("seed %d, %s: %s sees %v", seed, strings.Join(story, ", "),
					n.self.ID, n.peers)
			}
		}
		if t.Failed() {
			return
		}
	}
}
