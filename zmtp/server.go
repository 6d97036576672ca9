package zmtp

import (
	"context"

	"zmtpd/zmtp/wire"
)

// ServerOptions are the options of a Server or PeerSocket beside Config. The zero value is libzmq's
// default.
type ServerOptions struct {
	// Hello, unless it is empty, is sent on each new connection before anything else
	// (ZMQ_HELLO_MSG).
	Hello Message
	// Disconnect, unless it is empty, is received when a peer has gone (ZMQ_DISCONNECT_MSG). Its
	// Peer tells which.
	Disconnect Message
	// Hiccup, unless it is empty, is received when a connection that this socket has made is lost
	// (ZMQ_HICCUP_MSG). It is for a PeerSocket.
	Hiccup Message
}

// Server talks to several Clients (RFC 41). Its messages have one part, others are dropped and
// counted. Recv takes messages from the peers in turn; Message.Peer tells from which one a message
// came, and the ID of that peer is where Send sends the answer.
type Server struct {
	*Socket
	receiver
	addressed
}

// NewServer returns a Server socket.
func NewServer(cfg Config, options ...ServerOptions) *Server {
	opt := oneOption(options)
	s := new(Server)
	s.Socket = NewSocket(wire.SERVER, &addressedPattern{&s.addressed, &s.receiver, opt}, cfg)
	s.receiver = newReceiver(s.Socket)
	s.addressed = newAddressed(s.Socket)
	return s
}

// PeerSocket is a socket of type PEER, which talks to others of its type (RFC 51). It is a Server
// that may also connect, with ConnectPeer.
type PeerSocket struct {
	*Socket
	receiver
	addressed
}

// NewPeerSocket returns a PeerSocket.
func NewPeerSocket(cfg Config, options ...ServerOptions) *PeerSocket {
	opt := oneOption(options)
	s := new(PeerSocket)
	s.Socket = NewSocket(wire.PEER, &addressedPattern{&s.addressed, &s.receiver, opt}, cfg)
	s.receiver = newReceiver(s.Socket)
	s.addressed = newAddressed(s.Socket)
	return s
}

// ConnectPeer is Connect that returns the ID of the peer (zmq_connect_peer). Messages for it are
// queued at once, and survive the loss of the connection.
func (s *PeerSocket) ConnectPeer(endpoint string) (id uint64, err error) {
	live := s.live.Load()
	r := &route[uint64]{id: s.nextID.Add(1), parked: true,
		outbox: newOutbox(live.SendHWM, live.SendBytes, s.memory)}
	s.routes.add(r, false)
	if err := s.connect(endpoint, r.outbox, r); err != nil {
		s.routes.remove(r)
		return 0, err
	}
	return r.id, nil
}

// addressed is the half of a socket that sends to the peer with a given ID.
type addressed struct {
	socket *Socket
	routes routes[uint64]
}

func newAddressed(s *Socket) addressed {
	return addressed{s, routes[uint64]{socket: s, opened: gate{also: &s.watchers}}}
}

// Send queues m, whose memory it may keep, for the peer whose ID is given. It waits while the queue
// of that peer is full. It returns ErrNoPeer if the peer is not there (any more), the cause of
// ctx's end when that comes first, ErrClosed after the end of the socket, and an error that wraps
// ErrMessage for a message that has not exactly one part.
func (a *addressed) Send(ctx context.Context, id uint64, m Message) error {
	return awaitRoom(ctx, a.socket, &a.routes.opened, func() error { return a.TrySend(id, m) })
}

// TrySend is Send without waiting: it returns ErrWouldBlock instead.
func (a *addressed) TrySend(id uint64, m Message) error {
	if len(m.wire) == 0 {
		return ErrMessage
	}
	if err := onePart(m); err != nil {
		return err
	}
	_, err := a.routes.send(id, func(o *outbox) bool { return o.offerMessage(m) })
	return err
}

// addressedPattern is the pattern of SERVER and PEER.
type addressedPattern struct {
	out *addressed
	in  *receiver
	opt ServerOptions
}

func (s *addressedPattern) Attach(p *Peer) error {
	r, ok := p.owner.tag.(*route[uint64])
	if ok {
		s.out.routes.meet(r, p)
	} else {
		r = &route[uint64]{id: p.id, outbox: p.outbox, peer: p}
		s.out.routes.add(r, false)
	}
	p.Value = r
	p.greet(s.opt.Hello)
	return nil
}

func (s *addressedPattern) Receive(p *Peer, b *Batch) error {
	if b.onePart() {
		s.in.deliver(p, b)
	}
	return nil
}

func (s *addressedPattern) Detach(p *Peer, _ error) {
	if r := p.Value.(*route[uint64]); r.parked {
		s.out.routes.meet(r, nil)
	} else {
		s.out.routes.remove(r)
	}
	s.in.hiccups(p, s.opt.Hiccup)
	s.in.tell(p, s.opt.Disconnect)
}
