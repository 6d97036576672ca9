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
	handshake              // commands of the mechanism
	traffic                // messages and commands
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

// dissect takes the next bytes of a direction, which it may change. Only what is not complete is
// kept.
func (r *Reader) dissect(s *session, side int, run []byte) error {
	h := &s.half[side]
	b := run
	if len(h.buf) > 0 {
		r.keep(h, run)
		b = h.buf
	}
	rest, err := r.items(s, side, b)
	switch {
	case err != nil:
		return err
	case h.stage == dead:
		return nil
	case len(rest) == 0:
		r.free(h)
	case len(h.buf) > 0:
		h.buf = h.buf[:copy(h.buf, rest)]
	default:
		r.keep(h, rest)
	}
	if len(rest) > 0 && r.buffered > r.limit.buffered {
		return r.fail(s, side, fmt.Errorf("%w: %d bytes", ErrMemory, r.buffered))
	}
	return nil
}

// keep appends to what a direction holds.
func (r *Reader) keep(h *half, b []byte) {
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
		case handshake:
			b, more, err = r.shake(s, side, b)
		case traffic:
			b, more, err = r.item(s, side, b)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// greet parses the greeting. Like shake and item it returns the rest of b, and whether that may
// contain more.
func (r *Reader) greet(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h, other := &s.half[side], &s.half[1-side]
	g, n, err := wire.ParseGreeting(b)
	if err != nil {
		if len(b) > wire.SignatureSize && b[0] == signatureFirst &&
			b[wire.SignatureSize-1] == signatureLast {
			// ZMTP 1.0 or 2.0.
			if err := r.open(s); err != nil {
				return b, false, err
			}
		}
		return b, false, r.fail(s, side, err)
	}
	if n == 0 {
		return b, false, nil
	}
	if err := r.open(s); err != nil {
		return b, false, err
	}
	h.greeting, h.stage = g, handshake
	if err := r.emit(s, Event{Kind: Greeting, From: s.side(side), Greeting: g}); err != nil {
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

// shake parses a frame of the handshake.
func (r *Reader) shake(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	// MORE and COMMAND are ignored, as in libzmq: old peers do not set COMMAND.
	_, size, n, err := wire.ParseHeader(b)
	if err != nil {
		return b, false, r.fail(s, side, err)
	}
	if size > maxHandshakeFrame {
		return b, false, r.fail(s, side, wire.Errorf(wire.CommandTooLarge,
			"handshake frame of %d bytes, the limit is %d",
			size, maxHandshakeFrame))
	}
	if n == 0 || int64(len(b)-n) < size {
		return b, false, nil
	}
	body := b[n : n+int(size)]
	rest = b[n+int(size):]
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
			return rest, true, r.command(s, side, name, data)
		}
		m, err := wire.ParseMetadata(data)
		if err != nil {
			return b, false, r.fail(s, side, err)
		}
		return rest, true, r.emit(s, Event{Kind: Metadata, From: s.side(side), Metadata: m})
	case c == wire.CmdError:
		h.stage = traffic
		return rest, true, r.command(s, side, name, data)
	case (c == cmdHello || c == cmdWelcome) && !null:
		return rest, true, r.command(s, side, name, data)
	}
	return b, false, r.fail(s, side, wire.Errorf(wire.UnexpectedCommand,
		"%.32q in the handshake of %s", name, h.greeting.Mechanism))
}

// item parses a message or a command.
func (r *Reader) item(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	if len(b) == 0 {
		return b, false, nil
	}
	if h.greeting.Mechanism == mechanismCurve {
		return b, false, r.encrypted(s, side)
	}
	h.decoder.MaxMessageSize = r.limit.message
	it, err := h.decoder.Next(b)
	if err != nil {
		return b, false, r.fail(s, side, err)
	}
	switch it.Kind {
	case wire.AMessage:
		m, err := zmtp.ParseMessage(bytes.Clone(b[:it.Size]))
		if err != nil {
			return b, false, r.fail(s, side, err)
		}
		r.stats.Messages++
		if err := r.emit(s, Event{Kind: Message, From: s.side(side), Message: m}); err != nil {
			return b, false, err
		}
	case wire.ACommand:
		name, data, err := wire.ParseCommand(it.Body)
		if err != nil {
			return b, false, r.fail(s, side, err)
		}
		if err := r.command(s, side, name, data); err != nil {
			return b, false, err
		}
	}
	return b[it.From:it.To], it.Kind != wire.NeedMore, nil
}

func (r *Reader) command(s *session, side int, name, data []byte) error {
	return r.emit(s, Event{Kind: Command, From: s.side(side), Name: string(name),
		Data: bytes.Clone(data)})
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
			if err := r.emit(s, Event{Kind: Problem, From: s.side(side), Err: err}); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail gives up a direction. The Problem waits until the session is known to be ZMTP.
func (r *Reader) fail(s *session, side int, why error) error {
	if err := r.kill(s, side); err != nil {
		return err
	}
	switch {
	case errors.Is(why, ErrNoStart) && !s.syn:
		// It may or may not be ZMTP.
		r.stats.NoStart++
		if !r.wanted(s) {
			return r.bury(s)
		}
		if err := r.emit(s, Event{Kind: Problem, Err: why}); err != nil {
			return err
		}
		return r.bury(s)
	case s.phase == opened:
		return r.emit(s, Event{Kind: Problem, From: s.side(side), Err: why})
	case s.half[1-side].stage == dead:
		return r.leave(s)
	}
	s.half[side].err = why
	return nil
}

// failBoth gives up a session that is known to be ZMTP.
func (r *Reader) failBoth(s *session, why error) error {
	for side := range s.half {
		if err := r.kill(s, side); err != nil {
			return err
		}
	}
	return r.emit(s, Event{Kind: Problem, Err: why})
}

// encrypted gives up a direction of CURVE whose handshake is complete.
func (r *Reader) encrypted(s *session, side int) error {
	if err := r.kill(s, side); err != nil || s.encrypted {
		return err
	}
	s.encrypted = true
	return r.emit(s, Event{Kind: Problem, Err: ErrEncrypted})
}
