package ws

import (
	"encoding/binary"
	"math"

	"zmtpd/zmtp/wire"
)

// opcode is the kind of a WebSocket frame (RFC 6455, section 5.2).
type opcode byte

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xa
)

const (
	final     = 0x80 // the last fragment of a message
	reserved  = 0x70 // set by extensions only, and this package offers none
	maskedBit = 0x80 // in the second byte

	// maxControl is the size of the longest payload of a control frame (RFC 6455, section 5.5).
	maxControl = 125
	// maxHeader is the size of the longest frame header.
	maxHeader = 14
)

// Flags of RFC 45 in the first byte of a binary frame.
const (
	flagMore    = 1 << 0
	flagCommand = 1 << 1
)

// maskKey is what the payload of a client's frames is combined with.
type maskKey [4]byte

// header is the header of a WebSocket frame.
type header struct {
	op   opcode
	size int64 // of the payload
	key  maskKey
}

// parseHeader parses the header at the front of b and returns its length, 0 while b is too short.
// masked is whether the sender must mask, which only clients do. It refuses what libzmq refuses
// (ws_decoder.cpp), and sizes that RFC 6455 does not allow.
func parseHeader(b []byte, masked bool) (h header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.op = opcode(b[0] & 0xf)
	switch {
	case b[0]&reserved != 0:
		return h, 0, malformed("a WebSocket frame with reserved bits; no extension was agreed on")
	case h.op == opText:
		return h, 0, malformed("a text frame; ZeroMQ over WebSocket is binary only (RFC 45)")
	case h.op == opContinuation || b[0]&final == 0:
		return h, 0, malformed("a fragmented message; each part must be one WebSocket frame")
	case h.op != opBinary && h.op != opClose && h.op != opPing && h.op != opPong:
		return h, 0, malformed("a WebSocket frame of unknown opcode %#x", byte(h.op))
	case b[1]&maskedBit != 0 != masked:
		if masked {
			return h, 0, malformed("an unmasked WebSocket frame of a client")
		}
		return h, 0, malformed("a masked WebSocket frame of a server")
	}
	h.size, n = int64(b[1]&^maskedBit), 2
	switch {
	case h.op != opBinary && h.size > maxControl:
		return h, 0, malformed("a control frame above %d bytes", maxControl)
	case h.size == 126:
		n = 4
	case h.size == 127:
		n = 10
	}
	if masked {
		n += len(h.key)
	}
	if len(b) < n {
		return h, 0, nil
	}
	switch h.size {
	case 126:
		h.size = int64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		size := binary.BigEndian.Uint64(b[2:])
		if size > math.MaxInt64 || uint64(int(size)) != size {
			return h, 0, malformed("a WebSocket frame of %d bytes", size)
		}
		h.size = int64(size)
	}
	if masked {
		h.key = maskKey(b[n-len(h.key):])
	}
	if h.op == opBinary && h.size == 0 {
		return h, 0, malformed("a binary frame without the byte for its flags")
	}
	return h, n, nil
}

func malformed(format string, args ...any) error {
	return wire.Errorf(wire.MalformedFrame, "the peer sent "+format, args...)
}

// appendHeader appends the header of a frame with size bytes of payload. key is nil if the payload
// is not masked.
func appendHeader(dst []byte, op opcode, size int, key *maskKey) []byte {
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

// apply masks or unmasks b, the part of a payload from byte offset on.
func (k maskKey) apply(offset int64, b []byte) {
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
