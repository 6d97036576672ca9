package zmtp

import (
	"errors"
	"fmt"

	"zmtpd/zmtp/wire"
)

// RouterOptions are the options of a Router beside Config. The zero value is libzmq's default.
type RouterOptions struct {
	// Mandatory makes Send report a message for a peer that is not there (ErrNoPeer), and wait for
	// room in the queue of one that is. Without it such messages are dropped and counted
	// (ZMQ_ROUTER_MANDATORY).
	Mandatory bool
	// Handover gives a routing id that a peer has to the next one that asks for it. Nothing is
	// received from the first any more and nothing sent to it, but it stays connected, since it
	// would come back and take the routing id again. Without Handover, the newcomer is ignored in
	// that way (ZMQ_ROUTER_HANDOVER).
	Handover bool
	// ProbeRouter sends an empty message on each new connection (ZMQ_PROBE_ROUTER).
	ProbeRouter bool
	// NotifyConnect and NotifyDisconnect let the application receive a message of a routing id and
	// an empty part when a peer has come or has gone (ZMQ_ROUTER_NOTIFY).
	NotifyConnect, NotifyDisconnect bool
	// Hello, unless it is empty, is sent on each new connection before anything else
	// (ZMQ_HELLO_MSG).
	Hello Message
	// Disconnect, unless it is empty, is received, behind the routing id, when a peer has gone
	// (ZMQ_DISCONNECT_MSG).
	Disconnect Message
}

// Router talks to several peers by their routing ids (RFC 28). Recv takes messages from the peers
// in turn and puts the routing id of the peer before the other parts. Send takes the first part off
// and sends the rest to the peer that has that routing id.
//
// The routing id of a peer is its Config.RoutingID, or one of five bytes beginning with a zero that
// the Router makes, a new one for each connection.
//
// While a peer is not connected its id is unknown, unless the endpoint was given to ConnectAs. What
// waits for a peer that is lost is dropped and counted.
type Router struct {
	*Socket
	receiver
	sender
	opt    RouterOptions
	routes routes[string]
	ids    idMaker
}

// NewRouter returns a Router socket.
func NewRouter(cfg Config, options ...RouterOptions) *Router {
	opt := oneOption(options)
	s := &Router{opt: opt, ids: newIDMaker()}
	if opt.ProbeRouter && len(opt.Hello.wire) == 0 {
		s.opt.Hello = probe
	}
	s.Socket = NewSocket(wire.ROUTER, (*routerPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, (*routerPattern)(s), nil)
	s.routes.socket = s.Socket
	return s
}

// ConnectAs is Connect for a peer that this Router calls by id, whatever routing id it has
// (ZMQ_CONNECT_ROUTING_ID). Messages for it are queued at once, and survive the loss of the
// connection. It fails if another peer has that id.
func (s *Router) ConnectAs(id []byte, endpoint string) error {
	if len(id) == 0 {
		return errors.New("zmtp: ConnectAs: the routing id is empty")
	}
	if err := checkRoutingID(id); err != nil {
		return err
	}
	live := s.live.Load()
	r := &route[string]{id: string(id), parked: true,
		outbox: newOutbox(live.SendHWM, live.SendBytes, s.memory)}
	if _, ok := s.routes.add(r, false); !ok {
		return fmt.Errorf("zmtp: ConnectAs: another peer has the routing id %q", id)
	}
	err := s.connect(endpoint, r.outbox, r)
	if err != nil {
		s.routes.remove(r)
	}
	return err
}

// PeerState reports whether there are messages from the peer with this routing id to receive, and
// whether its queue has room (zmq_socket_get_peer_state). The error is ErrNoPeer if no peer has it.
func (s *Router) PeerState(id []byte) (readable, writable bool, err error) {
	o, p := s.routes.find(string(id))
	if o == nil {
		return false, false, ErrNoPeer
	}
	return p != nil && s.inbox.holds(&p.inPipe), o.hasRoom(0), nil
}

type routerPattern Router

func (s *routerPattern) Attach(p *Peer) error {
	r, ok := p.owner.tag.(*route[string])
	if ok {
		s.routes.meet(r, p)
	} else {
		r = &route[string]{outbox: p.outbox, peer: p}
		if r.id = string(p.RoutingID()); r.id == "" {
			r.id = s.ids.next(s.routes.has)
		}
		other, ok := s.routes.add(r, s.opt.Handover)
		if !ok {
			s.log.Warn("a peer is ignored, since another has its routing id", "peer", p.Remote(),
				"id", r.id)
			return nil
		}
		if other != nil {
			other.replaced.Store(true)
		}
	}
	p.Value = r
	p.inPipe.envelope = wire.AppendFrame(nil, wire.More, []byte(r.id))
	p.greet(s.opt.Hello)
	if s.opt.NotifyConnect {
		s.tell(p, probe)
	}
	return nil
}

func (s *routerPattern) Receive(p *Peer, b *Batch) error {
	if r, ok := p.Value.(*route[string]); !ok || r.replaced.Load() {
		p.Drop(DropUnexpected, b.Len())
		return nil
	}
	s.deliver(p, b)
	return nil
}

func (s *routerPattern) Detach(p *Peer, _ error) {
	r, ok := p.Value.(*route[string])
	if !ok || r.replaced.Load() {
		return
	}
	if r.parked {
		s.routes.meet(r, nil)
	} else {
		s.routes.remove(r)
	}
	s.tell(p, s.opt.Disconnect)
	if s.opt.NotifyDisconnect {
		s.tell(p, probe)
	}
}

// room implements distributor.
func (s *routerPattern) room() *gate { return &s.routes.opened }

// errNoID is returned for a message without a part behind the routing id.
var errNoID error = &sentinel{"zmtp: a ROUTER sends messages of a routing id and at least one " +
	"part more", ErrMessage}

// trySend implements distributor.
func (s *routerPattern) trySend(m Message) error {
	id, rest := m.CutPart()
	if len(rest.wire) == 0 {
		return errNoID
	}
	return s.sent(s.routes.send(string(id), func(o *outbox) bool { return o.offerMessage(rest) }))
}

// trySendBatch implements distributor.
func (s *routerPattern) trySendBatch(b *Batch, first int) (n int, err error) {
	one := Batch{peer: b.peer, slab: b.slab, spans: make([]span, 1)}
	for i := first; i < b.Len(); i++ {
		one.spans[0] = b.spans[i]
		id, ok := one.CutPart(0)
		if !ok {
			return i - first, errNoID
		}
		if err := s.sent(s.routes.send(string(id), func(o *outbox) bool {
			return o.offer(&one, []Run{{0, 1}}) == 1
		})); err != nil {
			return i - first, err
		}
	}
	return b.Len() - first, nil
}

// sent turns the result of a send into that of the socket's option. Without Mandatory, what cannot
// be sent is dropped.
func (s *routerPattern) sent(p *Peer, err error) error {
	if s.opt.Mandatory {
		return err
	}
	switch err {
	case ErrNoPeer:
		s.drop(DropNoPeer, 1)
	case ErrWouldBlock:
		if p == nil {
			s.drop(DropFull, 1)
		} else {
			p.Drop(DropFull, 1)
		}
	default:
		return err
	}
	return nil
}
