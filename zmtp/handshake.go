package zmtp

import (
	"strings"

	"zmtpd/zmtp/wire"
)

// maxHandshakeFrame bounds a frame of the handshake in bytes. Real peers send a few hundred;
// metadata with generous application properties (RFC 37) still fits.
const maxHandshakeFrame = 64 << 10

// handshake is one side of a connection from its first byte to the end of the mechanism, without
// I/O: bytes in, bytes out. It waits for the peer's greeting before it sends the first command.
type handshake struct {
	local     SocketType
	mechanism Mechanism
	maxFrame  int64

	greeting []byte // what is left to send of ours
	greeted  bool
	// session, unless it is nil, is for a Session: there are no greetings.
	session *SessionTraits
	peer    wire.Greeting
	mutual  bool // the peer may send its first command before it has ours
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

// skipGreeting is for a Session that is open: the handshake begins with the mechanism.
func (h *handshake) skipGreeting(t SessionTraits) {
	h.greeting = nil
	h.session = &t
}

// start appends the signature, which this side sends before it has read anything.
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

// negotiate appends the next step of the greeting. The steps are those of libzmq (zmtp_engine.cpp,
// receive_greeting_versioned): a peer of an older version that got the whole greeting would take
// the bytes behind the version for a frame, and would close before it has sent its own version.
func (h *handshake) negotiate(dst, b []byte) []byte {
	switch {
	case len(b) > wire.SignatureSize:
		return h.greet(dst, wire.GreetingSize)
	case len(b) == wire.SignatureSize:
		return h.greet(dst, wire.SignatureSize+1)
	}
	return dst
}

// feed takes bytes from the peer, returns how many of them it has consumed, and appends the answer
// to dst. The caller gives the others again, with more bytes behind them; when the handshake is
// ProgressReady they begin the traffic. An answer that comes with an error must be sent before the
// connection is closed.
func (h *handshake) feed(dst, b []byte) (out []byte, n int, progress Progress, err error) {
	if !h.greeted {
		if dst, n, err = h.greetings(dst, b); err != nil || !h.greeted {
			return dst, n, ProgressContinue, err
		}
		if dst, progress, err = h.mechanism.Handshake(dst, nil); err != nil ||
			progress == ProgressNeedsAuth {
			h.mutual = true
			return dst, n, progress, err
		}
	}
	for {
		// MORE and COMMAND are ignored, as in libzmq: old peers do not set COMMAND.
		_, size, header, err := wire.ParseHeader(b[n:])
		if err != nil {
			return dst, n, ProgressContinue, err
		}
		limit := h.maxFrame
		if l, ok := h.mechanism.(FrameLimiter); ok {
			limit = min(limit, l.MaxFrame())
		}
		if size > limit {
			return dst, n, ProgressContinue,
				wire.Errorf(wire.CommandTooLarge, "handshake frame of %d bytes, the limit is %d",
					size, limit)
		}
		if header == 0 || int64(len(b)-n-header) < size {
			return dst, n, ProgressContinue, nil
		}
		body := b[n+header : n+header+int(size)]
		n += header + int(size)
		before := len(dst)
		dst, progress, err = h.mechanism.Handshake(dst, body)
		switch {
		case err != nil:
			return dst, n, ProgressContinue, err
		case progress == ProgressReady:
			if err = checkMetadata(h.local, h.mechanism.Metadata()); err != nil {
				dst = dst[:before] // like libzmq, give no answer to a wrong INITIATE
			}
			return dst, n, ProgressReady, err
		case progress == ProgressNeedsAuth:
			return dst, n, ProgressNeedsAuth, nil
		}
	}
}

// greetings takes the greeting of the peer, see feed.
func (h *handshake) greetings(dst, b []byte) (out []byte, n int, err error) {
	if h.session != nil {
		h.peer = wire.Greeting{Major: 3, Minor: 1, Mechanism: h.mechanism.Name()}
		if h.session.SubscriptionMessages {
			h.peer.Minor = 0
		}
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

// early refuses bytes that came before the authenticator has answered. Allowed is the READY of a
// peer that need not wait for ours, and nothing behind it.
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
		return wire.Errorf(wire.UnexpectedCommand, "the peer sent more before it was authenticated")
	}
	return nil
}

// checkMetadata applies libzmq's rules to the metadata of a peer: each Socket-Type in it must fit,
// and there may be none. Names are compared without regard to case (RFC 37).
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

// localMetadata returns the metadata of a socket, in libzmq's order.
func localMetadata(t SocketType, identity []byte, app Metadata) Metadata {
	m := Metadata{{Name: wire.PropSocketType, Value: []byte(t)}}
	if t.HasIdentity() {
		m = append(m, Property{Name: wire.PropIdentity, Value: identity})
	}
	return append(m, app...)
}
