package zmtp

import (
	"sync"

	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// The commands of a DISH (RFC 48).
const (
	cmdJoin  = "JOIN"
	cmdLeave = "LEAVE"
)

// maxGroup is the largest group of RADIO and DISH in bytes (libzmq, ZMQ_GROUP_MAX_LENGTH).
const maxGroup = 255

// errGroup is returned for a message that has no group.
var errGroup error = &sentinel{"zmtp: a RADIO sends messages of two parts, a group of at most 255 " +
	"bytes and a body", ErrMessage}

// Radio sends messages to the Dishes that have joined their group (RFC 48). A message has two
// parts: the group, of at most 255 bytes, and the body.
//
// Send does not wait: a peer without room loses the message, which is counted (DropFull).
type Radio struct {
	*Socket
	sender
	groups groups
}

// NewRadio returns a Radio socket.
func NewRadio(cfg Config) *Radio {
	s := new(Radio)
	s.Socket = NewSocket(wire.RADIO, (*radioPattern)(s), cfg)
	s.groups.socket = s.Socket
	s.sender = newSender(s.Socket, &s.groups, grouped)
	return s
}

// grouped checks that m is a group and a body.
func grouped(m Message) error {
	if group, rest := m.CutPart(); m.NumParts() != 2 || len(group) > maxGroup ||
		len(rest.wire) == 0 {
		return errGroup
	}
	return nil
}

type radioPattern Radio

func (s *radioPattern) Attach(p *Peer) error {
	p.Value = make(map[string]struct{})
	return nil
}

func (s *radioPattern) Detach(p *Peer, _ error) { s.groups.remove(p) }

// Receive drops what a DISH has no right to send.
func (*radioPattern) Receive(*Peer, *Batch) error { return nil }

// Command implements CommandHandler.
func (s *radioPattern) Command(p *Peer, name, data []byte) error {
	switch string(name) {
	case cmdJoin:
		return s.groups.join(p, string(data))
	case cmdLeave:
		s.groups.leave(p, string(data))
	}
	return nil
}

// groups are the peers that have joined each group. A peer's Value is the set of its groups, which
// only its read goroutine uses.
type groups struct {
	socket *Socket

	mu     sync.RWMutex
	joined map[string]map[*Peer]struct{}
}

// join lets p take part in a group. A second time has no effect.
func (g *groups) join(p *Peer, group string) error {
	own := p.Value.(map[string]struct{})
	if _, ok := own[group]; ok {
		return nil
	}
	switch limit := g.socket.cfg.MaxSubscriptions; {
	case len(group) > maxGroup:
		return wire.Errorf(wire.MalformedGroup, "JOIN with a group of %d bytes, the limit is %d",
			len(group), maxGroup)
	case len(own) >= limit:
		return wire.Errorf(wire.TooManySubscriptions, "more than %d groups", limit)
	}
	p.memory.Add(topics.Cost([]byte(group)))
	own[group] = struct{}{}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.joined == nil {
		g.joined = make(map[string]map[*Peer]struct{})
	}
	if g.joined[group] == nil {
		g.joined[group] = make(map[*Peer]struct{})
	}
	g.joined[group][p] = struct{}{}
	return nil
}

// leave undoes join. It ignores a group that p has not joined.
func (g *groups) leave(p *Peer, group string) {
	own := p.Value.(map[string]struct{})
	if _, ok := own[group]; !ok {
		return
	}
	p.memory.Release(topics.Cost([]byte(group)))
	delete(own, group)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.joined[group], p)
	if len(g.joined[group]) == 0 {
		delete(g.joined, group)
	}
}

func (g *groups) remove(p *Peer) {
	for group := range p.Value.(map[string]struct{}) {
		g.leave(p, group)
	}
}

// room implements distributor. Nothing waits.
func (*groups) room() *gate { return new(gate) }

// trySend implements distributor.
func (g *groups) trySend(m Message) error {
	group, _ := cutPart(m.wire)
	return g.distribute(group, func(p *Peer) bool { return p.OfferMessage(m) })
}

// trySendBatch implements distributor.
func (g *groups) trySendBatch(b *Batch, first int) (n int, err error) {
	for i := first; i < b.Len(); i++ {
		run := []Run{{i, i + 1}}
		if err := g.distribute(b.Topic(i),
			func(p *Peer) bool { return p.Offer(b, run) == 1 }); err != nil {
			return i - first, err
		}
	}
	return b.Len() - first, nil
}

// distribute calls offer for every peer in the group, and counts what has no room.
func (g *groups) distribute(group []byte, offer func(*Peer) bool) error {
	if g.socket.closing.Load() {
		return ErrClosed
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	for p := range g.joined[string(group)] {
		if !offer(p) {
			p.Drop(DropFull, 1)
		}
	}
	return nil
}
