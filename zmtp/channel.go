package zmtp

import "zmtpd/zmtp/wire"

// Channel is a Pair whose messages have one part (RFC 52).
type Channel struct {
	*Socket
	receiver
	sender
}

// NewChannel returns a Channel socket.
func NewChannel(cfg Config) *Channel {
	s := new(Channel)
	s.Socket = NewSocket(wire.CHANNEL, &channelPattern{pairPattern{&s.receiver}}, cfg)
	s.balancer = &loadBalancer{memory: s.memory, single: true}
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, s.balancer, onePart)
	return s
}

type channelPattern struct{ pairPattern }

func (s *channelPattern) Receive(p *Peer, b *Batch) error {
	if b.onePart() {
		s.in.deliver(p, b)
	}
	return nil
}
