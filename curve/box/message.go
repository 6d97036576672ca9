package box

import (
	"encoding/binary"

	"zmtpd/curve/salsa"
	"zmtpd/zmtp/wire"
)

const (
	name    = "\x07MESSAGE"
	nonceAt = len(name)
	tagAt   = nonceAt + 8

	// Overhead is the size of a MESSAGE's body minus the size of the body of the frame inside it,
	// in bytes. It includes the inner octet of flags.
	Overhead = tagAt + salsa.Overhead + 1

	// The inner octet of flags. RFC 26 defines the first one, libzmq's curve_mechanism_base.cpp
	// both. Other bits are ignored.
	innerMore    = 1 << 0
	innerCommand = 1 << 1
)

const (
	// maxBatch is the number of frames that the ciphers process at once.
	maxBatch = 16
	// batchSize is the approximate number of bytes that the ciphers process at once. The text is
	// still in the cache when they compute its tag.
	batchSize = 32 << 10
)

// A Direction says which side sends.
type Direction string

// The directions. Each is the beginning of its nonces, 16 octets (RFC 26).
const (
	FromClient Direction = "CurveZMQMESSAGEC"
	FromServer Direction = "CurveZMQMESSAGES"
)

// batch is a number of frames that the ciphers process at once.
type batch struct {
	cipher   salsa.Cipher
	messages [maxBatch]salsa.Message
}

func (b *batch) init(shared *[32]byte, d Direction) {
	b.cipher.Init(shared, (*[16]byte)([]byte(d)))
}

// appendMessage appends a MESSAGE frame that is not sealed yet, and returns the Message with which
// the cipher seals it.
func appendMessage(dst []byte, nonce uint64, flags wire.Flags, body []byte) ([]byte,
	salsa.Message) {
	dst = wire.AppendHeader(dst, 0, len(body)+Overhead)
	dst = append(dst, name...)
	dst = binary.BigEndian.AppendUint64(dst, nonce)
	tag := len(dst)
	text := tag + salsa.Overhead
	dst = append(dst[:text], innerFlags(flags))
	dst = append(dst, body...)
	return dst, salsa.Message{Nonce: nonce, Dst: dst[tag:], Src: dst[text:]}
}

// parseMessage returns the nonce, and the tag with the ciphertext, of a MESSAGE. The checks and
// their order are libzmq's. The nonce must be larger than last.
func parseMessage(body []byte, last uint64) (nonce uint64, sealed []byte, err error) {
	command, _, err := wire.ParseCommand(body)
	if err != nil {
		return 0, nil, err
	}
	if string(command) != name[1:] {
		return 0, nil, wire.Errorf(wire.UnexpectedCommand, "%.16q in place of MESSAGE", command)
	}
	if len(body) < Overhead {
		return 0, nil, wire.Errorf(wire.MalformedMessage,
			"MESSAGE of %d bytes, the shortest has %d",
			len(body), Overhead)
	}
	if nonce = binary.BigEndian.Uint64(body[nonceAt:]); nonce <= last {
		return 0, nil, wire.Errorf(wire.InvalidSequence,
			"nonce %d of a MESSAGE is not above %d, that of the previous one", nonce, last)
	}
	return nonce, body[tagAt:], nil
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
