package zmtp

import "zmtpd/zmtp/wire"

// DealerOptions are the options of a Dealer beside Config. The zero value is libzmq's default.
type DealerOptions struct {
	// Immediate gives messages only to peers whose handshake is complete, not to endpoints that are
	// still being connected (ZMQ_IMMEDIATE). What waits for a peer that is lost goes to the others.
	Immediate bool
	// ProbeRouter sends an empty message on each new connection, so that a ROUTER knows of the peer
	// before it has anything to say (ZMQ_PROBE_ROUTER).
	ProbeRouter bool
	// Hello, unless it is empty, is sent on each new connection before anything else
	// (ZMQ_HELLO_MSG).
	Hello Message
	// Hiccup, unless it is empty, is received when a connection that this socket has made is lost
	// (ZMQ_HICCUP_MSG).
	Hiccup Message
}

// Dealer talks to REP, ROUTER and DEALER peers without waiting for replies (RFC 28). Send gives
// each message to one peer in turn, as a Push does, and waits while all queues are full or there is
// no peer. Recv takes messages from the peers in turn, as a Pull does.
//
// A Dealer changes no message. To talk to a REP, put an empty part before the others: the REP sends
// it back with the reply.
//
// What a Push does with messages for an endpoint without a listener, and for a peer that is lost, a
// Dealer does too.
type Dealer struct {
	*Socket
	receiver
	sender
	hello, hiccup Message
}

// NewDealer returns a Dealer socket.
func NewDealer(cfg Config, options ...DealerOptions) *Dealer {
	opt := oneOption(options)
	s := &Dealer{hello: opt.Hello, hiccup: opt.Hiccup}
	if opt.ProbeRouter && len(s.hello.wire) == 0 {
		s.hello = probe
	}
	s.Socket = NewSocket(wire.DEALER, (*dealerPattern)(s), cfg)
	s.balancer = &loadBalancer{immediate: opt.Immediate, memory: s.memory}
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, s.balancer, nil)
	return s
}

// probe is what ProbeRouter sends.
var probe = NewMessage(nil)

type dealerPattern Dealer

func (s *dealerPattern) Attach(p *Peer) error {
	p.greet(s.hello)
	s.balancer.attach(p)
	return nil
}

func (s *dealerPattern) Receive(p *Peer, b *Batch) error {
	s.deliver(p, b)
	return nil
}

func (s *dealerPattern) Detach(p *Peer, _ error) { s.hiccups(p, s.hiccup) }

// greet sends m, unless it is empty, before anything else.
func (p *Peer) greet(m Message) {
	if len(m.wire) > 0 {
		p.outbox.greet(m)
	}
}

// hiccups lets the application receive m, unless it is empty, if the connection to p was made by
// this socket and will be made again.
func (r receiver) hiccups(p *Peer, m Message) {
	if len(m.wire) > 0 && p.owner.listener == nil && p.owner.ctx.Err() == nil {
		r.tell(p, m)
	}
}

// tell lets the application receive m behind all that p has sent. It does not wait; when too many
// such messages wait, it drops m.
func (r receiver) tell(p *Peer, m Message) {
	if len(m.wire) == 0 {
		return
	}
	m.peer = p
	if !r.socket.inbox.notify(&p.inPipe, countedBatchOf(m, r.socket.memory)) {
		p.Drop(DropFull, 1)
	}
}
