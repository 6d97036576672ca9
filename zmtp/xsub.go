package zmtp

import "zmtpd/zmtp/wire"

// XSub receives the messages that it has subscribed from publishers (RFC 29). It does not filter
// what arrives.
//
// Send sends upstream, to every publisher. It does not wait: a publisher without room loses the
// message, which is counted (DropFull). A message whose only part begins with a byte 1 or 0 is a
// subscription of the rest, or its cancellation, as in libzmq, and goes out in that form.
type XSub struct {
	*Socket
	receiver
	sender
	subscriber
}

// XSubOptions are the options of an XSub beside Config. The zero value is libzmq's default.
type XSubOptions struct {
	// VerboseUnsubscribe sends every cancellation to the publishers, not only the last one of a
	// topic, and those of topics that are not subscribed (ZMQ_XSUB_VERBOSE_UNSUBSCRIBE).
	VerboseUnsubscribe bool
}

// NewXSub returns an XSub socket.
func NewXSub(cfg Config, options ...XSubOptions) *XSub {
	s := new(XSub)
	s.Socket = NewSocket(wire.XSUB, (*xsubPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, &s.subscriber, nil)
	s.subscriber.socket = s.Socket
	s.subscriber.verbose = oneOption(options).VerboseUnsubscribe
	return s
}

type xsubPattern XSub

func (s *xsubPattern) Attach(p *Peer) error            { s.subscriber.attach(p); return nil }
func (s *xsubPattern) Detach(p *Peer, _ error)         { s.subscriber.detach(p) }
func (s *xsubPattern) Receive(p *Peer, b *Batch) error { s.deliver(p, b); return nil }

// Sub receives the messages that it has subscribed from publishers (RFC 29): without Subscribe,
// none. It filters messages by its subscriptions when they arrive, and again when the application
// receives them (libzmq, xsub.cpp), since a publisher may not have seen a cancellation yet.
type Sub struct {
	*Socket
	receiver
	subscriber
}

// NewSub returns a Sub socket.
func NewSub(cfg Config) *Sub {
	s := new(Sub)
	s.Socket = NewSocket(wire.SUB, (*subPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.match = func(topic []byte) bool {
		return s.subscriber.topics.Root().Any(topic) != s.cfg.InvertMatching
	}
	s.subscriber.socket = s.Socket
	return s
}

type subPattern Sub

func (s *subPattern) Attach(p *Peer) error    { s.subscriber.attach(p); return nil }
func (s *subPattern) Detach(p *Peer, _ error) { s.subscriber.detach(p) }

func (s *subPattern) Receive(p *Peer, b *Batch) error {
	if s.filter(b) {
		s.deliver(p, b)
	}
	return nil
}
