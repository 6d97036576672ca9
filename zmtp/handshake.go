package zmtp

import (
	"strings"

	"zmtpd/zmtp/wire"
)

// maxHandshakeFrame bounds a frame of the handshake in bytes. Nobody sends more than a few hundred;
// RFC 37 metadata with generous application properties still fits.
const maxHandshakeFrame = 64 << 10

// handshake is one side of a connection from its first byte to the end of the mechanism, without
// I/O: bytes in, bytes out. It waits for the peer's greeting before it sends the first command.
type handshake struct {
	local     SocketType
	mechanism Mechanism
	maxFrame  int64

	greeting []byte // what is left to send of ours
	greeted  bool
	session  bool // nobody sends a greeting
	peer     wire.Greeting
	mutual   bool // the peer's first command does not wait for ours
}

func newHandshake(local SocketType, m Mechanism, maxMessage int64) *handshake {
	h := &handshake{
		local: local, mechanism: m, maxFrame: maxHandshakeFrame,
		greeting: wire.AppendGreeting(nil, m.Name(), false),
	}
	if maxMessage > 0 {
		h.maxFrame = min(h.maxFrame, maxMessage)
	}
	return h
}

// skipGreeting says that the connection is a Session, which is open: the mechanism comes first.
func (h *handshake) skipGreeting() {
	h.greeting = nil
	h.session = true
}

// start appends what this side sends before it has read anything: the signature.
func (h *handshake) start(dst []byte) []byte { return h.greet(dst, wire.SignatureSize) }

// greet appends the greeting up to its byte end.
func (h *handshake) greet(dst []byte, end int) []byte {
	sent := wire.GreetingSize - len(h.greeting)
	if end <= sent {
		return dst
	}
	dst = append(dst, h.greeting[:end-sent]...)
	h.greeting = h.greeting[end-sent:]
	return dst
}

// negotiate appends what the peer may know now of the greeting. The steps are those of libzmq
// (zmtp_engine.cpp, receive_greeting_versioned): an older peer that was sent the whole greeting
// would take what stands behind the version for a frame, and hang up before it has said its own.
func (h *handshake) negotiate(dst, b []byte) []byte {
	switch {
	case len(b) > wire.SignatureSize:
		return h.greet(dst, wire.GreetingSize)
	case len(b) == wire.SignatureSize:
		return h.greet(dst, wire.SignatureSize+1)
	}
	return dst
}

// feed takes the bytes that came from the peer, says how many of them it consumed, and appends the
// answer to dst. The bytes that it did not consume must be given again with more behind them; when
// the handshake is Ready they are the first of the traffic. An answer may come together with an
// error and must be sent before the connection is closed.
func (h *handshake) feed(dst, b []byte) (out []byte, n int, progress Progress, err error) {
	if !h.greeted {
		if dst, n, err = h.greetings(dst, b); err != nil || !h.greeted {
			return dst, n, Continue, err
		}
		if dst, progress, err = h.mechanism.Handshake(dst, nil); err != nil ||
			progress == NeedsAuth {
			h.mutual = true
			return dst, n, progress, err
		}
	}
	for {
		// MORE and COMMAND are not looked at: libzmq does not either, and old peers do not set
		// COMMAND.
		_, size, header, err := wire.ParseHeader(b[n:])
		if err != nil {
			return dst, n, Continue, err
		}
		limit := h.maxFrame
		if l, ok := h.mechanism.(FrameLimiter); ok {
			limit = min(limit, l.MaxFrame())
		}
		if size > limit {
			return dst, n, Continue,
				wire.Errorf(wire.CommandTooLarge, "handshake frame of %d bytes, the limit is %d",
					size, limit)
		}
		if header == 0 || int64(len(b)-n-header) < size {
			return dst, n, Continue, nil
		}
		body := b[n+header : n+header+int(size)]
		n += header + int(size)
		before := len(dst)
		dst, progress, err = h.mechanism.Handshake(dst, body)
		switch {
		case err != nil:
			return dst, n, Continue, err
		case progress == Ready:
			if err = checkMetadata(h.local, h.mechanism.Metadata()); err != nil {
				dst = dst[:before] // libzmq too answers a wrong INITIATE with nothing
			}
			return dst, n, Ready, err
		case progress == NeedsAuth:
			return dst, n, NeedsAuth, nil
		}
	}
}

// greetings takes the greeting of the peer, see feed.
func (h *handshake) greetings(dst, b []byte) (out []byte, n int, err error) {
	if h.session {
		h.peer = wire.Greeting{Major: 3, Minor: 1, Mechanism: h.mechanism.Name()}
		h.greeted = true
		return dst, 0, nil
	}
	g, n, err := wire.ParseGreeting(b)
	if err != nil {
		return dst, 0, err
	}
	dst = h.negotiate(dst, b)
	if n == 0 {
		return dst, 0, nil
	}
	h.peer, h.greeted = g, true
	return dst, n, g.CheckMechanism(h.mechanism.Name())
}

// early refuses what a peer has sent before the authenticator has answered: its READY may be there,
// if it need not wait for ours, but nothing behind it.
func (h *handshake) early(b []byte) error {
	allowed := int64(0)
	if h.mutual {
		_, size, header, err := wire.ParseHeader(b)
		switch {
		case err != nil:
			return err
		case header == 0:
			return nil
		case size > h.maxFrame:
			return wire.Errorf(wire.CommandTooLarge, "handshake frame of %d bytes, the limit is %d",
				size, h.maxFrame)
		}
		allowed = int64(header) + size
	}
	if int64(len(b)) > allowed {
		return wire.Errorf(wire.UnexpectedCommand, "the peer sent more before it was let in")
	}
	return nil
}

// checkMetadata applies libzmq's rules to the metadata of a peer: every Socket-Type among it must
// fit, none is fine. Names are compared without regard to case (RFC 37), so that a wrong
// "socket-type" is wrong as well.
func checkMetadata(local SocketType, m Metadata) error {
	for _, p := range m {
		switch {
		case strings.EqualFold(p.Name, wire.PropSocketType):
			if !local.Accepts(SocketType(p.Value)) {
				return wire.Errorf(wire.SocketTypeMismatch,
					"a %s socket cannot talk to a %.16q socket", local, p.Value)
			}
		case strings.EqualFold(p.Name, wire.PropIdentity) && local.WantsIdentity():
			if err := checkRoutingID(p.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkRoutingID refuses a routing id that RFC 37 does not allow. None at all is allowed.
func checkRoutingID(id []byte) error {
	if len(id) > 255 || len(id) > 0 && id[0] == 0 {
		return wire.Errorf(wire.BadIdentity,
			"routing id of %d bytes; RFC 37 allows 1 to 255, the first of them not zero", len(id))
	}
	return nil
}

// localMetadata is what a socket says of itself, in libzmq's order.
func localMetadata(t SocketType, identity []byte, app Metadata) Metadata {
	m := Metadata{{Name: wire.PropSocketType, Value: []byte(t)}}
	if t.HasIdentity() {
		m = append(m, Property{Name: wire.PropIdentity, Value: identity})
	}
	return append(m, app...)
}
