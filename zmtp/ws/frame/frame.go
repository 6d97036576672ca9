// Package frame parses and makes the frames of WebSocket (RFC 6455) that carry ZeroMQ (RFC 45). It
// does no I/O.
package frame

import (
	"encoding/binary"
	"math"

	"zmtpd/zmtp/wire"
)

// Opcode is the kind of a WebSocket frame (RFC 6455, section 5.2).
type Opcode byte

// The opcodes. Continuation and Text are not used by ZeroMQ.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xa
)

const (
	final     = 0x80 // the last fragment of a message
	reserved  = 0x70 // set by extensions only, which RFC 45 does not have
	maskedBit = 0x80 // in the second byte

	// MaxControl is the size of the longest payload of a control frame (RFC 6455, section 5.5).
	MaxControl = 125
	// MaxHeader is the size of the longest frame header.
	MaxHeader = 14
)

// Flags of RFC 45, in the first byte of the payload of a binary frame.
const (
	More    = 1 << 0
	Command = 1 << 1
)

// ParseFlags returns the flags of the ZMTP frame that a binary frame carries.
func ParseFlags(b byte) (f wire.Flags, err error) {
	if b&^(More|Command) != 0 {
		return 0, malformed("reserved bits in the flags %#02x of a frame", b)
	}
	if b&More != 0 {
		f |= wire.More
	}
	if b&Command != 0 {
		f |= wire.Command
	}
	return f, nil
}

// MaskKey is what the payload of a client's frames is combined with.
type MaskKey [4]byte

// Header is the header of a WebSocket frame.
type Header struct {
	Op   Opcode
	Size int64 // of the payload in bytes
	Key  MaskKey
}

// ParseHeader parses the header at the front of b and returns its length, 0 while b is too short.
// masked tells whether the sender must mask, which only clients do. As libzmq (ws_decoder.cpp),
// ParseHeader refuses text, fragments and extensions, and accepts a size that has more bytes than
// necessary.
func ParseHeader(b []byte, masked bool) (h Header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.Op = Opcode(b[0] & 0xf)
	switch {
	case b[0]&reserved != 0:
		return h, 0, malformed("a WebSocket frame with reserved bits; no extension was agreed on")
	case h.Op == Text:
		return h, 0, malformed("a text frame; ZeroMQ over WebSocket is binary only (RFC 45)")
	case h.Op == Continuation || b[0]&final == 0:
		return h, 0, malformed("a fragmented message; each part must be one WebSocket frame")
	case h.Op != Binary && h.Op != Close && h.Op != Ping && h.Op != Pong:
		return h, 0, malformed("a WebSocket frame of unknown opcode %#x", byte(h.Op))
	case b[1]&maskedBit != 0 != masked:
		if masked {
			return h, 0, malformed("an unmasked WebSocket frame of a client")
		}
		return h, 0, malformed("a masked WebSocket frame of a server")
	}
	h.Size, n = int64(b[1]&^maskedBit), 2
	switch {
	case h.Op != Binary && h.Size > MaxControl:
		return h, 0, malformed("a control frame above %d bytes", MaxControl)
	case h.Size == 126:
		n = 4
	case h.Size == 127:
		n = 10
	}
	if masked {
		n += len(h.Key)
	}
	if len(b) < n {
		return h, 0, nil
	}
	switch h.Size {
	case 126:
		h.Size = int64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		size := binary.BigEndian.Uint64(b[2:])
		if size > math.MaxInt64 || uint64(int(size)) != size {
			return h, 0, malformed("a WebSocket frame of %d bytes", size)
		}
		h.Size = int64(size)
	}
	if masked {
		h.Key = MaskKey(b[n-len(h.Key):])
	}
	if h.Op == Binary && h.Size == 0 {
		return h, 0, malformed("a binary frame without the byte for its flags")
	}
	return h, n, nil
}

func malformed(format string, args ...any) error {
	return wire.Errorf(wire.MalformedFrame, format, args...)
}

// HeaderSize returns the size of the shortest header, which RFC 6455 demands, for a payload of size
// bytes.
func HeaderSize(size int64, masked bool) int {
	n := 2
	switch {
	case size > math.MaxUint16:
		n = 10
	case size > MaxControl:
		n = 4
	}
	if masked {
		n += len(MaskKey{})
	}
	return n
}

// AppendHeader appends the header of a frame with size bytes of payload. key is nil if the payload
// is not masked.
func AppendHeader(dst []byte, op Opcode, size int, key *MaskKey) []byte {
	var mask byte
	if key != nil {
		mask = maskedBit
	}
	dst = append(dst, final|byte(op))
	switch {
	case size < 126:
		dst = append(dst, mask|byte(size))
	case size <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(size))
	}
	if key != nil {
		dst = append(dst, key[:]...)
	}
	return dst
}

// Apply masks or unmasks b, the part of a payload from byte offset on.
func (k MaskKey) Apply(offset int64, b []byte) {
	at := int(offset & 3)
	rotated := [4]byte{k[at], k[(at+1)&3], k[(at+2)&3], k[(at+3)&3]}
	word := uint64(binary.LittleEndian.Uint32(rotated[:]))
	word |= word << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(word >> (8 * i))
	}
}
