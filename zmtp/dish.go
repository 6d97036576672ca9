package zmtp

import (
	"errors"
	"sync"

	"zmtpd/zmtp/wire"
)

// Dish receives the messages of the groups that it has joined from Radios (RFC 48): messages of two
// parts, the group and the body.
type Dish struct {
	*Socket
	receiver

	mu     sync.Mutex // over a change and its sending, so that all peers see one order
	groups map[string]struct{}
	peers  map[*Peer]struct{}
}

// NewDish returns a Dish socket.
func NewDish(cfg Config) *Dish {
	s := &Dish{groups: make(map[string]struct{}), peers: make(map[*Peer]struct{})}
	s.Socket = NewSocket(wire.DISH, (*dishPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.match = s.joined
	return s
}

// Join asks all Radios for the messages of a group of at most 255 bytes. A Radio that connects
// later, or again, gets all groups first. Join does not wait. It fails for a group that is joined
// already, as in libzmq.
func (s *Dish) Join(group string) error { return s.change(group, true) }

// Leave undoes Join. It fails for a group that is not joined.
func (s *Dish) Leave(group string) error { return s.change(group, false) }

func (s *Dish) change(group string, join bool) error {
	if s.closing.Load() {
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, joined := s.groups[group]; {
	case len(group) > maxGroup:
		return errors.New("zmtp: the group has more than 255 bytes")
	case join && joined:
		return errors.New("zmtp: the group is joined already")
	case !join && !joined:
		return errors.New("zmtp: the group is not joined")
	}
	if join {
		s.groups[group] = struct{}{}
	} else {
		delete(s.groups, group)
	}
	for p := range s.peers {
		p.sendGroup(group, join)
	}
	return nil
}

// joined reports whether the application wants messages of a group.
func (s *Dish) joined(group []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.groups[string(group)]
	return ok
}

// sendGroup sends a JOIN or LEAVE. Like a subscription it is subject to no limit on messages.
func (p *Peer) sendGroup(group string, join bool) {
	name := cmdLeave
	if join {
		name = cmdJoin
	}
	p.force(wire.AppendCommand(nil, name, []byte(group)), len(group))
}

type dishPattern Dish

func (s *dishPattern) Attach(p *Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for group := range s.groups {
		p.sendGroup(group, true)
	}
	s.peers[p] = struct{}{}
	return nil
}

func (s *dishPattern) Detach(p *Peer, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// Receive closes the connection to a RADIO that sends something else than a group and a body, as
// libzmq does (dish.cpp, dish_session_t).
func (s *dishPattern) Receive(p *Peer, b *Batch) error {
	var bad error
	for i, sp := range b.spans {
		if group := b.Topic(i); sp.parts != 2 || len(group) > maxGroup {
			bad = wire.Errorf(wire.MalformedGroup,
				"a message of %d parts, the first of %d bytes; RFC 48 wants a group of at most %d "+
					"and a body", sp.parts, len(group), maxGroup)
			b.spans = b.spans[:i] // what came before is good
			break
		}
	}
	if len(b.spans) > 0 && s.filter(b) {
		s.deliver(p, b)
	}
	return bad
}
