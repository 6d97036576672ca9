package zmtp

import (
	"encoding/hex"
	"sync"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
)

// A vectorSocket is a socket of any type, reduced to what the applications of the recordings do.
type vectorSocket struct {
	*Socket
	sendTo      func(Message) error
	subscribe   func(topic []byte) error
	unsubscribe func(topic []byte) error
	recv        func() (Message, error)
	plain       *plainPattern
}

// newVectorSocket makes a socket for a recording. The types that change messages, with an envelope
// or a group, have a pattern in their place that sends the frames of the recording as they are, and
// keeps what comes.
func newVectorSocket(typ wire.SocketType, cfg Config, verboser bool) *vectorSocket {
	switch typ {
	case wire.PUB:
		s := NewPub(cfg)
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend}
	case wire.SUB:
		s := NewSub(cfg)
		return &vectorSocket{Socket: s.Socket, subscribe: s.SubscribeBytes,
			unsubscribe: s.UnsubscribeBytes, recv: s.TryRecv}
	case wire.XPUB:
		s := NewXPub(cfg, XPubOptions{Verboser: verboser})
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend, recv: s.TryRecv}
	case wire.XSUB:
		s := NewXSub(cfg)
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend, subscribe: s.SubscribeBytes,
			unsubscribe: s.UnsubscribeBytes, recv: s.TryRecv}
	case wire.PUSH:
		s := NewPush(cfg, PushOptions{})
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend}
	case wire.PULL:
		s := NewPull(cfg)
		return &vectorSocket{Socket: s.Socket, recv: s.TryRecv}
	}
	p := &plainPattern{typ: typ}
	return &vectorSocket{Socket: NewSocket(typ, p, cfg), sendTo: p.send, plain: p}
}

// act does what the application does, if our type can do it.
func (s *vectorSocket) act(what string, topic []byte) {
	var err error
	switch {
	case what == "subscribe" && s.subscribe != nil:
		err = s.subscribe(topic)
	case what == "unsubscribe" && s.unsubscribe != nil:
		err = s.unsubscribe(topic)
	case what == "send" && s.sendTo != nil:
		err = s.sendTo(NewMessage(topic))
	}
	if err != nil {
		panic(err)
	}
}

// send sends a message in its wire form, once everything sent so far has taken effect.
func (s *vectorSocket) send(t *testing.T, m Message) {
	t.Helper()
	synctest.Wait()
	if s.sendTo == nil {
		t.Fatalf("a %s does not send", s.local)
	}
	if err := s.sendTo(m); err != nil {
		t.Fatal(err)
	}
}

// command sends a command as it is on the wire.
func (s *vectorSocket) command(t *testing.T, frame []byte) {
	t.Helper()
	synctest.Wait()
	one(t, s.Socket).outbox.command(frame)
}

// received returns what was delivered, in the form of the recordings.
func (s *vectorSocket) received(t *testing.T) []string {
	if s.plain != nil {
		return s.plain.received()
	}
	var all []string
	for s.recv != nil {
		m, err := s.recv()
		if err != nil {
			return all
		}
		all = append(all, recorded(m.AppendParts(nil)))
	}
	return all
}

// recorded returns a message in the form of the recordings.
func recorded(parts [][]byte) string {
	s := ""
	for i, part := range parts {
		if i > 0 {
			s += ","
		}
		if len(part) == 0 {
			s += "-"
		}
		s += hex.EncodeToString(part)
	}
	return s
}

// plainPattern sends to the peer what is sent, and keeps what arrives.
type plainPattern struct {
	typ wire.SocketType

	mu    sync.Mutex
	peers map[*Peer]struct{}
	got   []string
}

func (c *plainPattern) Attach(p *Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers == nil {
		c.peers = make(map[*Peer]struct{})
	}
	c.peers[p] = struct{}{}
	return nil
}

func (c *plainPattern) Detach(p *Peer, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, p)
}

func (c *plainPattern) Receive(p *Peer, b *Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range b.Messages() {
		c.got = append(c.got, c.view(p, m.AppendParts(nil)))
	}
	return nil
}

// view returns a message as an application of the type would receive it.
func (c *plainPattern) view(p *Peer, parts [][]byte) string {
	switch c.typ {
	case wire.REQ, wire.REP: // without the envelope
		for len(parts) > 0 && len(parts[0]) > 0 {
			parts = parts[1:]
		}
		return recorded(parts[1:])
	case wire.DISH: // without the group
		return recorded(parts[1:])
	case wire.ROUTER:
		id, _ := p.Metadata().Get(wire.PropIdentity)
		if len(id) == 0 {
			return "<auto-id>," + recorded(parts)
		}
		return recorded(append([][]byte{id}, parts...))
	}
	return recorded(parts)
}

func (c *plainPattern) send(m Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.peers {
		if !p.OfferMessage(m) {
			return ErrWouldBlock
		}
	}
	return nil
}

func (c *plainPattern) received() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got
}
