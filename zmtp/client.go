package zmtp

import "zmtpd/zmtp/wire"

// ClientOptions are the options of a Client beside Config. The zero value is libzmq's default.
type ClientOptions struct {
	// Immediate gives messages only to peers whose handshake is complete, not to endpoints that are
	// still being connected (ZMQ_IMMEDIATE). What waits for a peer that is lost goes to the others.
	Immediate bool
	// Hello, unless it is empty, is sent on each new connection before anything else
	// (ZMQ_HELLO_MSG).
	Hello Message
	// Hiccup, unless it is empty, is received when a connection that this socket has made is lost
	// (ZMQ_HICCUP_MSG).
	Hiccup Message
}

// Client talks to a Server (RFC 41). Its messages have one part, others are dropped and counted. It
// gives each message to one Server in turn and receives from them in turn, as a Dealer does.
type Client struct {
	*Socket
	receiver
	sender
	hello, hiccup Message
}

// NewClient returns a Client socket.
func NewClient(cfg Config, options ...ClientOptions) *Client {
	opt := oneOption(options)
	s := &Client{hello: opt.Hello, hiccup: opt.Hiccup}
	s.Socket = NewSocket(wire.CLIENT, (*clientPattern)(s), cfg)
	s.balancer = &loadBalancer{immediate: opt.Immediate, memory: s.memory}
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, s.balancer, onePart)
	return s
}

type clientPattern Client

func (s *clientPattern) Attach(p *Peer) error {
	p.greet(s.hello)
	s.balancer.attach(p)
	return nil
}

func (s *clientPattern) Receive(p *Peer, b *Batch) error {
	if b.onePart() {
		s.deliver(p, b)
	}
	return nil
}

func (s *clientPattern) Detach(p *Peer, _ error) { s.hiccups(p, s.hiccup) }
