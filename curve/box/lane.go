package box

import (
	"crypto/subtle"
	"encoding/binary"
	"slices"

	"zmtpd/zmtp/wire"
)

const (
	name     = "\x07MESSAGE"
	nonceAt  = len(name)
	tagAt    = nonceAt + 8
	cipherAt = tagAt + tagSize

	// Overhead is how many bytes longer the body of a MESSAGE is than the body of the frame that it protects.
	Overhead = cipherAt + 1

	// The octet of flags in front of a body (libzmq's curve_mechanism_base.cpp; RFC 26 knows only the first). The other bits
	// are ignored.
	innerMore    = 1 << 0
	innerCommand = 1 << 1
)

const (
	// maxLanes is how many frames are worked on at once.
	maxLanes = 16
	// batchSize is about how many bytes are worked on at once, so that the tag is computed of what is still in the cache.
	batchSize = 16 << 10
)

// A Direction says which side sends.
type Direction string

// The directions, each with the first 16 octets of its nonces (RFC 26).
const (
	FromClient Direction = "CurveZMQMESSAGEC"
	FromServer Direction = "CurveZMQMESSAGES"
)

// lane is one frame on its way through the ciphers.
type lane struct {
	nonce uint64
	dst   []byte         // where the octet of flags and the body go
	src   []byte         // where they come from
	tag   *[tagSize]byte // in the MESSAGE
	key   [keySize]byte  // of Poly1305, from xor
	flags byte           // of a frame to be sealed
}

// A Sealer protects what is sent on one connection. It is not for concurrent use: nonces go out in the order in which frames come in.
type Sealer struct {
	key   [keySize]byte
	nonce uint64 // of the next MESSAGE
	lanes [maxLanes]lane
}

// NewSealer returns a Sealer for what the side d sends. shared is the key that crypto_box_beforenm makes of the two sides'
// short-term keys; nonce is the number of the first MESSAGE.
func NewSealer(shared *[32]byte, d Direction, nonce uint64) *Sealer {
	return &Sealer{key: deriveKey(shared, string(d)), nonce: nonce}
}

// Seal appends the MESSAGE frames for frames, a sequence of whole frames as NULL would send them, to dst, which must not overlap
// them. The outer flags are those that libzmq sends: neither COMMAND nor MORE. It allocates only if dst is too small. It panics if the
// frames are not whole.
func (s *Sealer) Seal(dst, frames []byte) []byte {
	for len(frames) > 0 {
		lanes, size := s.lanes[:0], 0
		read := 0
		for read < len(frames) && len(lanes) < maxLanes && size < batchSize {
			flags, body, n, err := wire.ParseHeader(frames[read:])
			if err != nil || n == 0 || body > int64(len(frames)-read-n) {
				panic("box: Seal of something else than whole frames")
			}
			end := read + n + int(body)
			// The octet before the body stands where the flags belong. It is exchanged in the ciphertext.
			lanes = append(lanes, lane{src: frames[read+n-1 : end], flags: innerFlags(flags)})
			size += wire.FrameSize(int(body) + Overhead)
			read = end
		}
		frames = frames[read:]

		dst = slices.Grow(dst, size)
		for i := range lanes {
			l := &lanes[i]
			l.nonce = s.nonce
			s.nonce++
			dst = wire.AppendHeader(dst, 0, cipherAt+len(l.src))
			dst = append(dst, name...)
			dst = binary.BigEndian.AppendUint64(dst, l.nonce)
			at := len(dst)
			dst = dst[:at+tagSize+len(l.src)]
			l.tag = (*[tagSize]byte)(dst[at:])
			l.dst = dst[at+tagSize:]
		}
		xor(&s.key, lanes)
		for i := range lanes {
			l := &lanes[i]
			l.dst[0] ^= l.src[0] ^ l.flags
			sum(l.tag, l.dst, &l.key)
		}
		clear(lanes)
	}
	return dst
}

// An Opener takes the protection off what is received on one connection. It is not for concurrent use.
type Opener struct {
	key   [keySize]byte
	last  uint64 // nonce of the last frame of the peer
	lanes [maxLanes]lane
}

// NewOpener returns an Opener for what the side d sends. shared is as for [NewSealer]; last is the number of the peer's last
// command before its first MESSAGE, READY or INITIATE: every MESSAGE must have a larger one than what came before.
func NewOpener(shared *[32]byte, d Direction, last uint64) *Opener {
	return &Opener{key: deriveKey(shared, string(d)), last: last}
}

// Open appends to dst the frames that are protected in stream, a sequence of whole frames, as NULL would send them. dst must not
// overlap stream. It appends at most len(stream) bytes and allocates only if dst has no room for so many; beyond what it returns
// it may have used that room. Outer MORE and COMMAND are not looked at, only what is protected counts.
//
// With an error, which is a [*wire.Error], what was before the fault is appended, and the connection must be closed. Nothing
// that was not sealed by the holder of the key is ever returned.
func (o *Opener) Open(dst, stream []byte) ([]byte, error) {
	dst = slices.Grow(dst, len(stream))
	var err error
	for len(stream) > 0 && err == nil {
		lanes, size := o.lanes[:0], 0
		read := 0
		end := len(dst) // of the frames that will be appended
		for read < len(stream) && len(lanes) < maxLanes && size < batchSize {
			l, n, e := o.parse(stream[read:])
			if e != nil {
				err = e // after what was before
				break
			}
			// The octet of flags goes where the header's last one will be.
			body := len(l.src) - 1
			next := end + wire.FrameSize(body)
			l.dst = dst[next-body-1 : next]
			end = next
			lanes = append(lanes, l)
			size += n
			read += n
		}
		stream = stream[read:]

		xor(&o.key, lanes)
		unopened := dst[len(dst):end]
		for i := range lanes {
			l := &lanes[i]
			var tag [tagSize]byte
			sum(&tag, l.src, &l.key)
			if subtle.ConstantTimeCompare(tag[:], l.tag[:]) != 1 {
				err = wire.Errorf(wire.Cryptographic, "MESSAGE %d cannot be opened", l.nonce)
				clear(unopened)
				break
			}
			body := len(l.dst) - 1
			size := wire.FrameSize(body)
			wire.AppendHeader(dst, outerFlags(l.dst[0]), body) // into the room in front of the body
			dst = dst[:len(dst)+size]
			unopened = unopened[size:]
		}
		clear(lanes)
	}
	return dst, err
}

// parse makes a lane of the frame at the start of stream, and returns how many bytes it takes there. The checks and their
// order are libzmq's.
func (o *Opener) parse(stream []byte) (l lane, n int, err error) {
	_, size, n, err := wire.ParseHeader(stream)
	if err != nil {
		return l, 0, err
	}
	if n == 0 || size > int64(len(stream)-n) {
		return l, 0, wire.Errorf(wire.MalformedFrame, "the end of a protected frame is missing")
	}
	body := stream[n : n+int(size)]
	command, _, err := wire.ParseCommand(body)
	if err != nil {
		return l, 0, err
	}
	if string(command) != name[1:] {
		return l, 0, wire.Errorf(wire.UnexpectedCommand, "%.16q in place of MESSAGE", command)
	}
	if len(body) < Overhead {
		return l, 0, wire.Errorf(wire.MalformedMessage, "MESSAGE of %d bytes, the shortest has %d", len(body), Overhead)
	}
	nonce := binary.BigEndian.Uint64(body[nonceAt:])
	if nonce <= o.last {
		return l, 0, wire.Errorf(wire.InvalidSequence, "nonce %d of a MESSAGE is not above %d, the one before", nonce, o.last)
	}
	o.last = nonce
	return lane{nonce: nonce, tag: (*[tagSize]byte)(body[tagAt:]), src: body[cipherAt:]}, n + len(body), nil
}

func innerFlags(f wire.Flags) (inner byte) {
	if f&wire.More != 0 {
		inner |= innerMore
	}
	if f&wire.Command != 0 {
		inner |= innerCommand
	}
	return inner
}

func outerFlags(inner byte) (f wire.Flags) {
	if inner&innerMore != 0 {
		f |= wire.More
	}
	if inner&innerCommand != 0 {
		f |= wire.Command
	}
	return f
}
