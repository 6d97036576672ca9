package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
)

// readSubscriptions reads what the broker says of the subscriptions of all nodes, until the XPUB
// socket ends.
func (n *Node) readSubscriptions() {
	var broker *zmtp.Peer // the present connection
	for {
		b, err := n.xpub.RecvBatch(context.Background())
		if err != nil {
			return
		}
		for m := range b.Messages() {
			part := m.Part(0)
			if m.NumParts() != 1 || len(part) == 0 || part[0] > 1 {
				continue // as Zeek does
			}
			p := m.Peer()
			n.subscription(part[1:], part[0] == 1, gone(p), broker != nil && p != broker)
			broker = p
		}
		b.Release()
	}
}

// gone reports whether the connection to a peer has ended.
func gone(p *zmtp.Peer) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// subscription takes a subscription or its end. lost reports that it has ended with the connection
// to the broker, again that it is the first of another connection.
func (n *Node) subscription(topic []byte, on, lost, again bool) {
	n.update(func(m *membership, now time.Time) { m.noticed(topic, on, lost, again, now) })
	if !on {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch passed, ok := n.probes[string(topic)]; {
	case ok:
		n.probeEnds(string(topic))
		passed()
	case string(topic) == startedTopic && !n.wanted && n.name != "":
		// The manager announces the start once, perhaps in answer to this node.
		n.wanted = true
		n.xsub.Subscribe(startedTopic)
		n.probe(func() {
			n.listens = true
			n.connected()
		})
	}
}

// readEvents reads events until the XSUB socket ends.
func (n *Node) readEvents() {
	for {
		b, err := n.xsub.RecvBatch(context.Background())
		if err != nil {
			return
		}
		for m := range b.Messages() {
			n.receive(m)
		}
		b.Release()
	}
}

// receive takes a message, which belongs to the caller.
func (n *Node) receive(m zmtp.Message) {
	n.counts.received.Add(1)
	if parts := m.NumParts(); parts != 4 {
		n.drop(BadParts, "", fmt.Errorf("a message of %d parts, an event has 4", parts))
		return
	}
	node := m.Part(1)
	if bytes.HasPrefix(node, []byte(n.base)) {
		n.counts.own.Add(1)
		return
	}
	e, err := n.parse(m)
	if err != nil {
		return
	}
	internal := n.hello(m.Part(0), e)
	handlers := n.handlersOf(e.Name)
	switch {
	case len(handlers) > 0:
		kept := Event{Topic: string(m.Part(0)), Node: shorten(node), Event: event.Event{
			Name: bytes.Clone(e.Name), Args: bytes.Clone(e.Args),
			Metadata: bytes.Clone(e.Metadata)}}
		if !n.queue.add(item{event: kept, handlers: handlers}) {
			n.drop(QueueFull, kept.Node, errors.New("the handlers do not keep up"))
		}
	case internal:
		n.counts.hellos.Add(1)
	default:
		n.counts.unhandled.Add(1)
	}
}

// shorten returns the id of a sender, cut to what is held of one.
func shorten(id []byte) string { return string(id[:min(len(id), maxIDSize)]) }

// parse returns the event in a message, to whose memory it may refer. It counts what is none.
func (n *Node) parse(m zmtp.Message) (e event.Event, err error) {
	var raw event.Raw
	switch format := string(m.Part(2)); format {
	case Binary.String():
		e, err = event.ParseEvent(m.Part(3))
	case JSON.String():
		if raw, err = event.ParseJSON(nil, m.Part(3)); err == nil {
			e, err = event.AsEvent(raw)
		}
	default:
		err = fmt.Errorf("the format is %.80q, not %v or %v", format, Binary, JSON)
		n.drop(BadSerializer, shorten(m.Part(1)), err)
		return e, err
	}
	if err != nil {
		n.drop(BadEvent, shorten(m.Part(1)), fmt.Errorf("topic %.80q: %w", m.Part(0), err))
	}
	return e, err
}

// hello takes the events of the handshake and those about the start of the cluster, and reports
// whether e is one.
func (n *Node) hello(topic []byte, e event.Event) bool {
	var second bool
	switch string(e.Name) {
	case helloFirst:
	case helloSecond:
		second = true
	case clusterStarted:
		n.clusterStarted()
		return true
	default:
		return false
	}
	var name, id string
	// The size first: nothing that is refused is copied.
	tooLong := len(e.Args) > maxNameSize+maxIDSize+64
	if !tooLong && e.Decode(&name, &id) != nil {
		id = ""
	}
	n.update(func(m *membership, now time.Time) {
		switch {
		case tooLong:
			m.refuse(TooLong, "", "")
		case id == "":
			m.bad()
		case !m.passive() && string(topic) != NodeIDTopic(m.self.ID):
			m.refuse(NotForUs, name, id)
		case second:
			m.second(name, id, now)
		default:
			m.first(name, id, now)
		}
	})
	return true
}

// update changes what the node knows of the others, passes on what follows from that, and logs it.
func (n *Node) update(change func(m *membership, now time.Time)) {
	statuses, refused := n.apply(change)
	for _, s := range statuses {
		n.logStatus(s)
	}
	for _, r := range refused {
		if more, ok := n.limit.Admit("hello_"+r.why.String(), r.id); ok {
			n.log.Warn("a hello is not taken; more of this kind are counted only", "reason",
				r.why.String(), "name", r.name, "node", r.id, "not_logged", more)
		}
	}
}

// apply is update without the log, which may block. It returns what to log.
func (n *Node) apply(change func(m *membership, now time.Time)) (statuses []Status,
	refused []refused) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.left {
		return nil, nil
	}
	m := n.members
	change(m, time.Now())
	if m.oldID != "" {
		n.xsub.Unsubscribe(NodeIDTopic(m.oldID))
		n.xsub.Subscribe(NodeIDTopic(m.self.ID))
		m.oldID = ""
	}
	for _, g := range m.greetings {
		if !n.greet.add(g) {
			m.refuse(Unanswered, "", g.to)
		}
	}
	for _, s := range m.statuses {
		n.tell(s)
	}
	statuses, refused = m.statuses, m.refused
	m.greetings, m.statuses, m.refused = m.greetings[:0], nil, nil
	return statuses, refused
}

// tell passes a change in the cluster on. Caller holds the lock.
func (n *Node) tell(s Status) {
	if s.Kind == PeerAdded {
		delete(n.pending, s.Peer.Name)
		n.connected()
	}
	if n.cfg.Status != nil && !n.queue.add(item{status: &s}) {
		n.counts.lostStatuses.Add(1)
	}
}

func (n *Node) logStatus(s Status) {
	switch s.Kind {
	case PeerAdded:
		n.log.Info("a node is up", "name", s.Peer.Name, "node", s.Peer.ID)
	case PeerLost, PeerRemoved:
		n.log.Info("a node is down", "name", s.Peer.Name, "node", s.Peer.ID, "cause",
			s.Cause.String())
	case ClusterStarted:
		n.log.Info("the manager says that the cluster has started")
	}
}

// clusterStarted takes the announcement that the cluster has started.
func (n *Node) clusterStarted() {
	s := Status{Kind: ClusterStarted}
	n.mu.Lock()
	first := !n.started
	if first {
		n.started = true
		n.tell(s)
	}
	n.mu.Unlock()
	if first {
		n.logStatus(s)
	}
}

// connected tells the manager that this node sees all others, if it does and somebody waits for
// that. Without a layout, all others are those that are up: then the manager knows from them that
// each sees this node. Caller holds the lock.
func (n *Node) connected() {
	if n.listens && len(n.pending) == 0 && len(n.members.peers) > 0 {
		n.greet.add(greeting{event: fullyConnected})
	}
}

// say sends an event of the handshake.
func (n *Node) say(ctx context.Context, g greeting) {
	var err error
	if g.event == fullyConnected {
		n.mu.Lock()
		started := n.started
		n.mu.Unlock()
		err = n.Publish(ctx, Manager.Topic(), g.event, n.name, n.id(), started)
	} else {
		err = n.Publish(ctx, NodeIDTopic(g.to), g.event, n.name, n.id())
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("a hello cannot be sent", "node", g.to, "err", err)
	}
}
