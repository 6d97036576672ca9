package zmtp

import "zmtpd/zmtp/wire"

// ScatterOptions are the options of a Scatter beside Config. The zero value is libzmq's default.
type ScatterOptions struct {
	// Immediate gives messages only to peers whose handshake is complete, not to endpoints that are
	// still being connected (ZMQ_IMMEDIATE). What waits for a peer that is lost goes to the others.
	Immediate bool
}

// Scatter is a Push whose messages have one part (RFC 49). Its peers are Gathers.
type Scatter struct {
	*Socket
	sender
}

// NewScatter returns a Scatter socket.
func NewScatter(cfg Config, options ...ScatterOptions) *Scatter {
	opt := oneOption(options)
	s := new(Scatter)
	s.Socket = NewSocket(wire.SCATTER, (*scatterPattern)(s), cfg)
	s.balancer = &loadBalancer{immediate: opt.Immediate, memory: s.memory}
	s.sender = newSender(s.Socket, s.balancer, onePart)
	return s
}

type scatterPattern Scatter

func (s *scatterPattern) Attach(p *Peer) error { s.balancer.attach(p); return nil }
func (*scatterPattern) Detach(*Peer, error)    {}

// Receive drops what a GATHER peer has no right to send.
func (*scatterPattern) Receive(*Peer, *Batch) error { return nil }

// Gather is a Pull whose messages have one part; others are dropped and counted (RFC 49). Its peers
// are Scatters.
type Gather struct {
	*Socket
	receiver
}

// NewGather returns a Gather socket.
func NewGather(cfg Config) *Gather {
	s := new(Gather)
	s.Socket = NewSocket(wire.GATHER, (*gatherPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	return s
}

type gatherPattern Gather

func (*gatherPattern) Attach(*Peer) error  { return nil }
func (*gatherPattern) Detach(*Peer, error) {}

func (s *gatherPattern) Receive(p *Peer, b *Batch) error {
	if b.onePart() {
		s.deliver(p, b)
	}
	return nil
}
