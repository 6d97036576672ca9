package zmtp

import (
	"errors"

	"zmtpd/zmtp/wire"
)

// Pair talks to one other PAIR (RFC 31). While it has a peer, or an endpoint given to Connect, it
// refuses others.
//
// Send waits while the queue of the peer is full or there is none. What waits for a peer that is
// lost is sent when the connection is back, or to the next peer.
type Pair struct {
	*Socket
	receiver
	sender
}

// NewPair returns a Pair socket.
func NewPair(cfg Config) *Pair {
	s := new(Pair)
	s.Socket = NewSocket(wire.PAIR, &pairPattern{in: &s.receiver}, cfg)
	s.balancer = &loadBalancer{memory: s.memory, single: true}
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, s.balancer, nil)
	return s
}

// pairPattern is the pattern of the types that have one peer.
type pairPattern struct{ in *receiver }

// errSecondPeer refuses another peer, or another endpoint.
var errSecondPeer = errors.New("zmtp: the socket has a peer, and takes one only")

func (s *pairPattern) Attach(p *Peer) error {
	if !s.in.socket.balancer.attach(p) {
		return errSecondPeer
	}
	return nil
}

func (*pairPattern) Detach(*Peer, error) {}

func (s *pairPattern) Receive(p *Peer, b *Batch) error {
	s.in.deliver(p, b)
	return nil
}
