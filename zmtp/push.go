package zmtp

import "zmtpd/zmtp/wire"

// PushOptions are the options of a Push beside Config. The zero value is libzmq's default.
type PushOptions struct {
	// Immediate gives messages only to peers whose handshake is complete, not to endpoints that are
	// still being connected (ZMQ_IMMEDIATE). What waits for a peer that is lost goes to the others.
	Immediate bool
	// Key makes the Push sticky: messages with the same key go to the same peer. It returns the key
	// of a message, which may refer to the message, or nil for a message that any peer may get. It
	// is called with a lock held and must not call the socket. Nil: no message has a key.
	Key func(Message) []byte
}

// Push is the sending end of a pipeline (RFC 30): each message goes to one of its peers. Send waits
// while the queues of all peers that may get the message are full, or there is no peer.
//
// Messages without a key, which without PushOptions.Key are all, go to the peers in turn (round
// robin), past those whose queue is full. As many messages of a batch as fit go to one peer.
//
// Messages with the same key go to the same peer as long as it is there (sticky). Rendezvous
// hashing over the endpoints chooses it: the loss of a peer moves its keys and no others, and they
// move back when it comes back. Every Push with the same endpoints makes the same choice, also in
// another process. While the queue of that peer is full Send waits, although other peers may have
// room: to use them would break the order of the messages with that key.
//
// An endpoint given to Connect takes part at once, before anybody listens there, and what is queued
// for it survives the loss of the connection. With PushOptions.Immediate only peers take part whose
// handshake is complete. What waits for such a peer, or for one that was accepted, is taken back
// when the peer is lost, and goes to the other peers in its order, before anything that is sent
// later. Messages without a key then stand behind those that wait there already; messages with the
// same key keep their order as long as the lost peers stay away.
//
// ZMTP has no acknowledgements: what was handed to the kernel and not read by the peer is lost. The
// messages of the write that failed are counted (DropConnectionLost); earlier ones cannot be.
type Push struct {
	*Socket
	sender
}

// NewPush returns a Push socket.
func NewPush(cfg Config, options ...PushOptions) *Push {
	opt := oneOption(options)
	s := new(Push)
	s.Socket = NewSocket(wire.PUSH, (*pushPattern)(s), cfg)
	s.balancer = &loadBalancer{key: opt.Key, immediate: opt.Immediate, memory: s.memory}
	s.sender = newSender(s.Socket, s.balancer, nil)
	return s
}

// Returned returns how many messages were taken back from lost peers and wait until another peer
// has room, and their bytes on the wire.
func (s *Push) Returned() (msgs int, bytes int64) { return s.balancer.level() }

type pushPattern Push

func (s *pushPattern) Attach(p *Peer) error { s.balancer.attach(p); return nil }

// Detach has nothing to do: takeBack comes before it.
func (*pushPattern) Detach(*Peer, error) {}

// Receive drops what a PULL peer has no right to send.
func (*pushPattern) Receive(*Peer, *Batch) error { return nil }
