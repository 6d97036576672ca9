package capture

import (
	"bytes"
	"errors"
	"fmt"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// stage is how far a direction has come.
type stage uint8

const (
	greeting  stage = iota // its greeting comes next
	upgrade                // an HTTP request or response comes instead
	upgraded               // it has sent its request, and waits for the response
	handshake              // commands of the mechanism
	traffic                // messages and commands
	skipping               // the rest of a message of which a part is missing or too large
	lost                   // the boundaries of frames are not known
	dead                   // nothing of it is looked at any more
)

// Names of the mechanisms that are known, and of the commands that PLAIN and CURVE have (RFC 24,
// RFC 25).
const (
	mechanismNull  = "NULL"
	mechanismPlain = "PLAIN"
	mechanismCurve = "CURVE"

	cmdHello    = "HELLO"
	cmdWelcome  = "WELCOME"
	cmdInitiate = "INITIATE"

	// plainError is how a body begins that is an ERROR of PLAIN from libzmq since 4.3.0; the length
	// of the name is wrong.
	plainError = "\x5eRROR"
)

// signature is what every greeting since ZMTP 2.0 begins with, but for the eight bytes between.
const signatureFirst, signatureLast = 0xff, 0x7f

// startsGreeting reports whether a direction begins as a greeting does.
func startsGreeting(b []byte) bool {
	return len(b) > 0 && b[0] == signatureFirst &&
		(len(b) < wire.SignatureSize || b[wire.SignatureSize-1] == signatureLast)
}

// startsSession reports whether a direction begins as one of ZMTP does, over TCP or WebSocket.
func startsSession(b []byte) bool { return startsGreeting(b) || startsUpgrade(b) }

// dissect takes the next bytes of a direction, which it may change. Only what is not complete is
// kept. If something is, run completes it first, so that the rest of run is not copied.
func (r *Reader) dissect(s *session, side int, run []byte) error {
	h := &s.half[side]
	for first := true; h.stage != dead && (first || len(run) > 0); first = false {
		b := run
		if len(h.buf) == 0 {
			run = nil
		} else {
			n := len(run)
			if missing := h.need - len(h.buf); missing > 0 {
				n = min(n, missing)
			}
			r.keep(h, run[:n])
			b, run = h.buf, run[n:]
			if len(h.buf) < h.need {
				break
			}
		}
		h.need = 0
		rest, err := r.items(s, side, b)
		if h.ws != nil && h.ws.begun {
			h.ws.early, run = append(h.ws.early, run...), nil
		}
		switch {
		case err != nil:
			return err
		case h.stage == dead:
			return nil
		case len(rest) == 0:
			need := h.need
			r.free(h)
			h.need = need
		case len(h.buf) > 0:
			h.buf = h.buf[:copy(h.buf, rest)]
		default:
			r.keep(h, rest)
		}
	}
	return r.checkMemory(s, side)
}

// checkMemory gives up an unfinished message if there are too many.
func (r *Reader) checkMemory(s *session, side int) error {
	h := &s.half[side]
	if len(h.buf)+len(h.plain) == 0 || r.buffered <= r.limit.buffered {
		return nil
	}
	why := fmt.Errorf("%w: %d bytes", ErrMemory, r.buffered)
	if h.stage != traffic {
		return r.fail(s, side, why)
	}
	if err := r.emit(s, Event{Kind: Problem, From: s.side(side), Err: why}); err != nil {
		return err
	}
	r.loseMessage(h)
	if len(h.buf) == 0 {
		return nil
	}
	return r.skipMessage(s, side, h.buf)
}

// keep appends to what a direction holds.
func (r *Reader) keep(h *half, b []byte) {
	if h.buf == nil {
		h.buf = r.pool.get(len(b))
		r.buffered += int64(cap(h.buf))
	}
	before := cap(h.buf)
	h.buf = append(h.buf, b...)
	r.buffered += int64(cap(h.buf) - before)
}

// items makes events of all that is complete in b and returns what is left.
func (r *Reader) items(s *session, side int, b []byte) ([]byte, error) {
	h := &s.half[side]
	for more := true; more && h.stage != dead; {
		var err error
		switch h.stage {
		case greeting:
			b, more, err = r.greet(s, side, b)
		case upgrade:
			b, more, err = r.upgrade(s, side, b)
		case upgraded:
			b, more, err = r.awaitResponse(s, side, b)
		case handshake:
			b, more, err = r.shake(s, side, b)
		case traffic:
			b, more, err = r.traffic(s, side, b)
		case skipping:
			b, more = h.skip(b)
		case lost:
			b, more, err = r.resume(s, side, b)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// greet parses the greeting. Like shake and traffic it returns the rest of b, and whether that may
// contain more.
func (r *Reader) greet(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h, other := &s.half[side], &s.half[1-side]
	if other.greeting.Major == 2 && len(b) > 0 && b[0] == signatureFirst {
		return r.greet20(s, side, b)
	}
	if startsUpgrade(b) {
		h.stage = upgrade
		return b, true, nil
	}
	g, n, err := wire.ParseGreeting(b)
	if err != nil {
		if startsGreeting(b) && len(b) > wire.SignatureSize && b[wire.SignatureSize] == 1 {
			return r.greet20(s, side, b)
		}
		return b, false, r.fail(s, side, err)
	}
	if n == 0 {
		if startsGreeting(b) && len(b) >= wire.SignatureSize {
			err = r.open(s)
		}
		return b, false, err
	}
	if err := r.open(s); err != nil {
		return b, false, err
	}
	h.greeting, h.stage = g, handshake
	if err := r.step(s, Event{Kind: Greeting, From: s.side(side), Greeting: g}); err != nil {
		return b, false, err
	}
	switch m := g.Mechanism; {
	case m != mechanismNull && m != mechanismPlain && m != mechanismCurve:
		return b, false, r.failBoth(s, fmt.Errorf("%w %.20q", ErrMechanism, m))
	case (other.stage == handshake || other.stage == traffic) && other.greeting.Mechanism != m:
		return b, false, r.failBoth(s, wire.Errorf(wire.MechanismMismatch,
			"one side wants %q, the other one %q",
			other.greeting.Mechanism, m))
	}
	return b[n:], true, nil
}

// socketTypes20 are the socket types in their numbers in ZMTP 2.0 (RFC 15).
var socketTypes20 = [...]wire.SocketType{wire.PAIR, wire.PUB, wire.SUB, wire.REQ, wire.REP,
	wire.DEALER, wire.ROUTER, wire.PULL, wire.PUSH}

// greet20 parses a greeting of ZMTP 2.0 (RFC 15): behind the signature a revision, the socket type,
// and the identity as a frame. A peer that knows a later version sends that as revision.
func (r *Reader) greet20(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	const fixed = wire.SignatureSize + 2
	if err := r.open(s); err != nil {
		return b, false, err
	}
	if len(b) < fixed+2 || len(b) < fixed+2+int(b[fixed+1]) {
		return b, false, nil
	}
	h, kind := &s.half[side], b[fixed-1]
	if int(kind) >= len(socketTypes20) || b[fixed] != 0 {
		return b, false, r.fail(s, side, wire.Errorf(wire.MalformedReady,
			"socket type %d and flags %#02x in a greeting of ZMTP 2.0", kind, b[fixed]))
	}
	identity := b[fixed+2 : fixed+2+int(b[fixed+1])]
	h.greeting, h.stage = wire.Greeting{Major: 2}, traffic
	if err := r.step(s, Event{Kind: Greeting, From: s.side(side),
		Greeting: h.greeting}); err != nil {
		return b, false, err
	}
	metadata := wire.Metadata{{Name: wire.PropSocketType, Value: []byte(socketTypes20[kind])}}
	if len(identity) > 0 {
		metadata = append(metadata, wire.Property{Name: wire.PropIdentity,
			Value: bytes.Clone(identity)})
	}
	if err := r.metadata(s, side, metadata); err != nil {
		return b, false, err
	}
	// The other side may wait for this in its buffer.
	if other := &s.half[1-side]; other.stage == greeting && len(other.buf) > 0 {
		other.need = 0
		if err := r.dissect(s, 1-side, nil); err != nil {
			return b, false, err
		}
	}
	return b[fixed+2+len(identity):], true, nil
}

// shake parses a command of the handshake. Once its sender has nothing more to say in it, traffic
// follows.
func (r *Reader) shake(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	flags, size, n, err := wire.ParseHeader(b)
	switch {
	case err != nil:
		return b, false, r.fail(s, side, err)
	case n == 0:
		return b, false, nil
	case size > maxHandshakeFrame:
		return b, false, r.fail(s, side, wire.Errorf(wire.CommandTooLarge,
			"handshake frame of %d bytes, the limit is %d", size, maxHandshakeFrame))
	case int64(len(b)-n) < size:
		return b, false, nil
	case flags&wire.More != 0:
		return b, false, r.fail(s, side, wire.Errorf(wire.MalformedFrame,
			"a handshake frame has the MORE bit"))
	}
	// Like libzmq, do not look at the COMMAND bit: some peers do not set it.
	body, rest := b[n:n+int(size)], b[n+int(size):]
	null, curve := h.greeting.Mechanism == mechanismNull, h.greeting.Mechanism == mechanismCurve
	if data, ok := bytes.CutPrefix(body, []byte(plainError)); ok &&
		h.greeting.Mechanism == mechanismPlain {
		h.stage = traffic
		return rest, true, r.command(s, side, []byte(wire.CmdError), data)
	}
	name, data, err := wire.ParseCommand(body)
	if err != nil {
		return b, false, r.fail(s, side, err)
	}
	switch c := string(name); {
	case c == wire.CmdReady, c == cmdInitiate && !null:
		h.stage = traffic
		if curve {
			if err := r.command(s, side, name, data); err != nil {
				return b, false, err
			}
			return rest, true, r.openHandshake(s, side, c, data)
		}
		m, err := wire.ParseMetadata(data)
		if err != nil {
			return b, false, r.fail(s, side, err)
		}
		return rest, true, r.metadata(s, side, m)
	case c == wire.CmdError:
		h.stage = traffic
		return rest, true, r.command(s, side, name, data)
	case (c == cmdHello || c == cmdWelcome) && !null:
		switch {
		case curve && c == cmdHello:
			s.keys.hello(data)
		case curve && len(data) <= maxWelcome:
			s.keys.welcome = bytes.Clone(data)
		}
		return rest, true, r.command(s, side, name, data)
	}
	return b, false, r.fail(s, side, wire.Errorf(wire.UnexpectedCommand,
		"%.32q in the handshake of %s", name, h.greeting.Mechanism))
}

// metadata takes what a side says of itself.
func (r *Reader) metadata(s *session, side int, m wire.Metadata) error {
	value, _ := m.Get(wire.PropSocketType)
	from := s.side(side)
	// The longest type has 7 bytes. What a peer says instead is kept in part.
	s.public.side(from).Type = wire.SocketType(value[:min(len(value), 32)])
	if err := r.step(s, Event{Kind: Metadata, From: from, Metadata: m}); err != nil {
		return err
	}
	a, b := s.public.FromClient.Type, s.public.FromServer.Type
	if a == "" || b == "" || a.Accepts(b) && b.Accepts(a) {
		return nil
	}
	return r.emit(s, Event{Kind: Problem, Err: wire.Errorf(wire.SocketTypeMismatch,
		"the client is a %.16q, the server a %.16q", a, b)})
}

// traffic parses messages and commands.
func (r *Reader) traffic(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	if h.greeting.Mechanism == mechanismCurve {
		return r.sealed(s, side, b)
	}
	for len(b) > 0 && err == nil && h.stage == traffic {
		if isSealed(b) && h.greeting.Major == 0 && !h.decoder.Inside() {
			// The greeting is not in the capture.
			h.greeting.Mechanism = mechanismCurve
			return b, true, nil
		}
		if b, more, err = r.item(s, side, b); !more {
			return b, h.stage != traffic, err
		}
	}
	return b, h.stage != traffic, err
}

// item parses a message or a command of NULL.
func (r *Reader) item(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	h.decoder.MaxMessageSize = r.limit.message
	if m, parts := zmtp.CutMessage(&h.decoder, b); parts > 0 {
		return b[len(m.Wire()):], true, r.message(s, side, m, parts)
	}
	it, err := h.decoder.Next(b)
	if err != nil {
		return r.refused(s, side, b, err)
	}
	switch it.Kind {
	case wire.NeedMore:
		h.need, h.hole = it.Size, false
	case wire.AMessage:
		h.hole = false
		m, e := zmtp.ParseMessage(b[:it.Size])
		if e != nil {
			return b, false, r.fail(s, side, e)
		}
		err = r.message(s, side, m, it.Parts)
	case wire.ACommand:
		name, data, e := wire.ParseCommand(it.Body)
		if e != nil {
			return b, false, r.fail(s, side, e)
		}
		h.hole = h.decoder.Inside() // the frames are no chain until the decoder closes the hole
		err = r.command(s, side, name, data)
	}
	return b[it.From:it.To], it.Kind != wire.NeedMore, err
}

// refused takes what the decoder does not accept. A message that is too large is skipped.
func (r *Reader) refused(s *session, side int, b []byte, why error) (rest []byte, more bool,
	err error) {
	violation, ok := errors.AsType[*wire.Error](why)
	if !ok || violation.Reason != wire.MessageTooLarge {
		return b, false, r.fail(s, side, why)
	}
	if err := r.emit(s, Event{Kind: Problem, From: s.side(side), Err: why}); err != nil {
		return b, false, err
	}
	h := &s.half[side]
	switch {
	case h.opener != nil && h.hole:
		r.loseMessage(h)
	case h.opener != nil:
		h.orphan, h.decoder = true, wire.Decoder{}
		return b, true, nil
	case h.hole || !h.beginSkip(b):
		r.lose(s, side)
	}
	return nil, false, nil
}

func (r *Reader) message(s *session, side int, m zmtp.Message, parts int) error {
	r.stats.Messages++
	s.half[side].shape.learn(m.Wire(), parts)
	return r.emit(s, Event{Kind: Message, From: s.side(side), Message: m})
}

func (r *Reader) command(s *session, side int, name, data []byte) error {
	ev := Event{Kind: Command, From: s.side(side), Name: commandName(name), Data: data}
	if s.complete() {
		return r.emit(s, ev)
	}
	return r.step(s, ev)
}

// commandName returns the name as a string, without an allocation for those that are frequent.
func commandName(name []byte) string {
	switch string(name) {
	case wire.CmdPing:
		return wire.CmdPing
	case wire.CmdPong:
		return wire.CmdPong
	case wire.CmdSubscribe:
		return wire.CmdSubscribe
	case wire.CmdCancel:
		return wire.CmdCancel
	}
	return string(name)
}

// step emits an event of the handshake.
func (r *Reader) step(s *session, ev Event) error {
	what := ev.Kind.String()
	if ev.Kind == Command {
		what = ev.Name
	}
	s.lastStep = fmt.Sprintf("%.32q of the %s", what, ev.From)
	return r.emit(s, ev)
}

func (s *session) side(side int) Side {
	if side == s.client {
		return Client
	}
	return Server
}

// open emits Opened, once it is known that the session is ZMTP.
func (r *Reader) open(s *session) error {
	if s.phase == opened {
		return nil
	}
	s.phase = opened
	r.stats.Sessions++
	if err := r.emit(s, Event{Kind: Opened}); err != nil {
		return err
	}
	for side := range s.half {
		if err := s.half[side].err; err != nil {
			if err := r.problem(s, side, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// problem tells why a direction cannot be decoded.
func (r *Reader) problem(s *session, side int, why error) error {
	if v, ok := errors.AsType[*wire.Error](why); ok && v.Reason == wire.UnsupportedVersion {
		if err := r.emit(s, Event{Kind: Greeting, From: s.side(side),
			Greeting: wire.Greeting{Major: 1}}); err != nil {
			return err
		}
	}
	return r.emit(s, Event{Kind: Problem, From: s.side(side), Err: why})
}

// fail gives up a direction. The Problem waits until the session is known to be ZMTP.
func (r *Reader) fail(s *session, side int, why error) error {
	r.kill(s, side)
	switch {
	case s.phase == opened:
		return r.problem(s, side, why)
	case s.half[1-side].stage == dead:
		return r.leave(s)
	}
	s.half[side].err = why
	return nil
}

// failBoth gives up a session that is known to be ZMTP.
func (r *Reader) failBoth(s *session, why error) error {
	for side := range s.half {
		r.kill(s, side)
	}
	return r.emit(s, Event{Kind: Problem, Err: why})
}
