package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/nacl/box"

	curvebox "zmtpd/curve/box"

	"zmtpd/curve"
	"zmtpd/zmtp/wire"
)

// The frames behind the handshake of CURVE (RFC 26), and what of the handshake is needed to open
// them.

const (
	sealedName = "\x07MESSAGE"
	// sealedMin is the size of the smallest body of such a frame.
	sealedMin = int64(curvebox.Overhead)

	nonceInitiate = "CurveZMQINITIATE"
	nonceReady    = "CurveZMQREADY---"

	helloKeyAt    = 2 + 72 // of HELLO, behind the name: version and padding
	initiateBoxAt = 96     // of INITIATE: behind the cookie
	initiateFixed = 32 + 16 + 80
	maxWelcome    = 16 + 144 // of WELCOME, behind the name
)

// KeyFinder finds the key of a CURVE connection, under which both sides seal: by the client's
// short-term public key, which is in HELLO, and by what follows the name in WELCOME, which is nil
// if it is not in the capture. A *curve.KeyLogFile is one.
type KeyFinder interface {
	Find(client curve.Key, welcome []byte) (shared [32]byte, ok bool)
}

// sessionKeys is what a session needs to be decrypted.
type sessionKeys struct {
	client  curve.Key // short-term
	hasKey  bool
	welcome []byte // behind the name, if it was captured
	shared  [32]byte
	known   bool
}

// hello takes the client's key out of HELLO.
func (k *sessionKeys) hello(data []byte) {
	if len(data) >= helloKeyAt+curve.KeySize {
		k.client, k.hasKey = curve.Key(data[helloKeyAt:]), true
	}
}

// find asks for the key, once it is needed.
func (r *Reader) find(s *session) bool {
	k := &s.keys
	if !k.known && k.hasKey && r.opts.Keys != nil {
		k.shared, k.known = r.opts.Keys.Find(k.client, k.welcome)
	}
	return k.known
}

// openHandshake decrypts INITIATE or READY.
func (r *Reader) openHandshake(s *session, side int, name string, data []byte) error {
	h := &s.half[side]
	var prefix string
	var direction curvebox.Direction
	skip := 0
	switch from := s.side(side); {
	case name == cmdInitiate && len(data) > initiateBoxAt+8:
		prefix, direction, skip = nonceInitiate, curvebox.FromClient, initiateFixed
		data = data[initiateBoxAt:]
	case name == wire.CmdReady && len(data) > 8:
		prefix, direction = nonceReady, curvebox.FromServer
	default:
		return r.fail(s, side, wire.Errorf(wire.MalformedCommand, "%s of the %s has %d bytes", name,
			from, len(data)))
	}
	if !r.find(s) {
		return nil
	}
	nonce := [24]byte([]byte(prefix + string(data[:8])))
	plain, ok := box.OpenAfterPrecomputation(nil, data[8:], &nonce, &s.keys.shared)
	if !ok || len(plain) < skip {
		s.keys.known, s.keys.hasKey = false, false
		return r.emit(s, Event{Kind: Problem, From: s.side(side), Err: ErrKey})
	}
	h.opener = curvebox.NewOpener(&s.keys.shared, direction, binary.BigEndian.Uint64(data))
	if skip > 0 {
		s.public.side(s.side(side)).Key = curve.Key(plain)
	}
	m, err := wire.ParseMetadata(plain[skip:])
	if err != nil {
		return r.emit(s, Event{Kind: Problem, From: s.side(side), Err: err})
	}
	return r.metadata(s, side, m)
}

// isSealed reports whether b begins with a frame of CURVE.
func isSealed(b []byte) bool {
	flags, size, n, err := wire.ParseHeader(b)
	return err == nil && n > 0 && flags&wire.Command == 0 && size >= sealedMin &&
		bytes.HasPrefix(b[n:], []byte(sealedName))
}

// sealed takes the frames of a CURVE direction.
func (r *Reader) sealed(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	whole := 0 // bytes of the whole frames at the start of b
	for {
		_, size, n, err := wire.ParseHeader(b[whole:])
		if err == nil && n > 0 && size > r.limit.message+sealedMin {
			err = wire.Errorf(wire.MessageTooLarge, "frame of %d bytes, the limit is %d", size,
				r.limit.message+sealedMin)
		}
		if err != nil {
			return b, false, r.fail(s, side, err)
		}
		if n == 0 || size > int64(len(b)-whole-n) {
			if n > 0 {
				h.need = n + int(size)
			}
			break
		}
		frame := b[whole : whole+n+int(size)]
		if size < sealedMin || !bytes.HasPrefix(frame[n:], []byte(sealedName)) {
			return b, false, r.fail(s, side, wire.Errorf(wire.UnexpectedCommand,
				"a frame that is no MESSAGE in a CURVE session"))
		}
		whole += len(frame)
		if h.opener == nil && !r.openLate(s, side, frame[n+len(sealedName):]) {
			r.stats.Encrypted++
			h.orphan = true
			ev := Event{Kind: Encrypted, From: s.side(side), Size: int(size - sealedMin)}
			if err := r.emit(s, ev); err != nil {
				return b, false, err
			}
		}
	}
	if h.opener == nil || whole == 0 {
		return b[whole:], false, nil
	}
	had := len(h.plain)
	plain, err := h.opener.Open(h.plain, b[:whole])
	r.buffered += int64(len(plain) - had)
	h.plain = plain
	if err != nil {
		return b, false, r.fail(s, side, fmt.Errorf("%w: %w", ErrKey, err))
	}
	return b[whole:], false, r.opened(s, side)
}

// openLate makes an opener for a direction whose key was not known before.
func (r *Reader) openLate(s *session, side int, nonce []byte) bool {
	if !r.find(s) {
		return false
	}
	direction := curvebox.FromServer
	if s.side(side) == Client {
		direction = curvebox.FromClient
	}
	s.half[side].opener = curvebox.NewOpener(&s.keys.shared, direction,
		binary.BigEndian.Uint64(nonce)-1)
	return true
}

// opened takes what was decrypted.
func (r *Reader) opened(s *session, side int) error {
	h := &s.half[side]
	b := h.plain
	for more := true; more && len(b) > 0 && h.stage == traffic; {
		if h.orphan {
			flags, size, n, err := wire.ParseHeader(b)
			if err != nil || n == 0 || size > int64(len(b)-n) {
				break // the opener gives whole frames only
			}
			if flags&wire.Command == 0 {
				h.orphan = flags&wire.More != 0
				b = b[n+int(size):]
				continue
			}
		}
		var err error
		if b, more, err = r.item(s, side, b); err != nil {
			return err
		}
	}
	if h.stage != traffic {
		return nil
	}
	before := len(h.plain)
	h.plain, h.need = h.plain[:copy(h.plain, b)], 0
	r.buffered -= int64(before - len(h.plain))
	return nil
}

// loseMessage gives up the unfinished message of a CURVE direction.
func (r *Reader) loseMessage(h *half) {
	r.buffered -= int64(len(h.plain))
	h.orphan, h.plain, h.decoder = true, h.plain[:0], wire.Decoder{}
}
