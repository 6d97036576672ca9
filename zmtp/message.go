package zmtp

import (
	"bytes"
	"fmt"
	"iter"
	"strconv"

	"zmtpd/zmtp/wire"
)

// Message is a whole message of one or more parts. It is immutable: the memory behind it must not
// be changed by anybody once the Message exists. The zero Message has no parts and cannot be sent.
type Message struct {
	wire []byte // canonical form: the bytes on the wire of a NULL connection
	peer *Peer  // from which it came, or nil
}

// NewMessage makes a message of the given parts, which it copies.
func NewMessage(parts ...[]byte) Message {
	n := 0
	for _, p := range parts {
		n += wire.FrameSize(len(p))
	}
	if n >= referSize {
		return joinMessage(parts)
	}
	return Message{wire: AppendMessage(make([]byte, 0, n), parts...)}
}

// joinMessage is NewMessage for large messages. bytes.Join does not clear the memory before it
// copies.
func joinMessage(parts [][]byte) Message {
	pieces := make([][]byte, 0, 2*len(parts))
	headers := make([]byte, 0, wire.MaxHeaderSize*len(parts))
	for i, p := range parts {
		start := len(headers)
		headers = wire.AppendHeader(headers, partFlags(i, len(parts)), len(p))
		pieces = append(pieces, headers[start:], p)
	}
	return Message{wire: bytes.Join(pieces, nil)}
}

// partFlags returns the flags of part i of n.
func partFlags(i, n int) wire.Flags {
	if i < n-1 {
		return wire.More
	}
	return 0
}

// NewMessageString is NewMessage for strings.
func NewMessageString(parts ...string) Message {
	b := make([][]byte, len(parts))
	for i, p := range parts {
		b[i] = []byte(p)
	}
	return NewMessage(b...)
}

// AppendMessage appends the wire form of a message of the given parts.
func AppendMessage(dst []byte, parts ...[]byte) []byte {
	for i, p := range parts {
		dst = wire.AppendFrame(dst, partFlags(i, len(parts)), p)
	}
	return dst
}

// ParseMessage checks that b is the wire form of exactly one message and returns it. The message
// refers to b.
func ParseMessage(b []byte) (Message, error) {
	var d wire.Decoder
	it, err := d.Next(b)
	if err != nil {
		return Message{}, err
	}
	if it.Kind != wire.AMessage || it.Size != len(b) {
		return Message{}, wire.Errorf(wire.MalformedFrame, "%d bytes are not exactly one message",
			len(b))
	}
	return Message{wire: b}, nil
}

// CutMessage returns the message at the start of b and the number of its parts, if d finds it whole
// there (see wire.Decoder.Whole); else the zero Message. The message refers to b.
func CutMessage(d *wire.Decoder, b []byte) (m Message, parts int) {
	size, parts, _ := d.Whole(b)
	if size == 0 {
		return Message{}, 0
	}
	return Message{wire: b[:size:size]}, parts
}

// Wire returns the wire form, which the caller must not change.
func (m Message) Wire() []byte { return m.wire }

// Parts returns an iterator over the parts. They refer to the message and must not be changed.
func (m Message) Parts() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := m.wire; len(rest) > 0; {
			var part []byte
			part, rest = cutPart(rest)
			if !yield(part) {
				return
			}
		}
	}
}

// AppendParts appends the parts to dst. They refer to the message and must not be changed.
func (m Message) AppendParts(dst [][]byte) [][]byte {
	for part := range m.Parts() {
		dst = append(dst, part)
	}
	return dst
}

// NumParts returns the number of parts.
func (m Message) NumParts() int {
	n := 0
	for range m.Parts() {
		n++
	}
	return n
}

// Part returns part i, or nil if there is none. It refers to the message and must not be changed.
func (m Message) Part(i int) []byte {
	for part := range m.Parts() {
		if i == 0 {
			return part
		}
		i--
	}
	return nil
}

// CutPart returns the first part of m, and the message of the other parts, which is the zero
// Message if there are none. Both refer to m.
func (m Message) CutPart() (part []byte, rest Message) {
	if len(m.wire) == 0 {
		return nil, m
	}
	part, m.wire = cutPart(m.wire)
	if len(m.wire) == 0 {
		return part, Message{}
	}
	return part, m
}

// Prepend returns a message with parts, such as the routing id of an envelope (RFC 28), before
// those of m, which it copies as they are.
func (m Message) Prepend(parts ...[]byte) Message {
	size := len(m.wire)
	for _, p := range parts {
		size += wire.FrameSize(len(p))
	}
	b := appendEnvelope(make([]byte, 0, size), parts, m)
	return Message{wire: b, peer: m.peer}
}

// appendEnvelope appends parts and m as one message.
func appendEnvelope(dst []byte, parts [][]byte, m Message) []byte {
	if len(m.wire) == 0 {
		return AppendMessage(dst, parts...)
	}
	for _, p := range parts {
		dst = wire.AppendFrame(dst, wire.More, p)
	}
	return append(dst, m.wire...)
}

// Size returns the sum of the sizes of the parts in bytes.
func (m Message) Size() int {
	n := 0
	for part := range m.Parts() {
		n += len(part)
	}
	return n
}

// String returns the parts, quoted, for logs and tests: ["weather/oslo" "snow"]. Of a large message
// it returns the first 16 parts and the first 256 bytes of each, and how much is missing. To get
// the text of a part, use string(m.Part(i)).
func (m Message) String() string {
	const maxParts, maxBytes = 16, 256
	b := []byte{'['}
	i := 0
	for part := range m.Parts() {
		if i > 0 {
			b = append(b, ' ')
		}
		if i == maxParts {
			b = fmt.Appendf(b, "and %d parts", m.NumParts()-maxParts)
			break
		}
		b = strconv.AppendQuote(b, string(part[:min(len(part), maxBytes)]))
		if len(part) > maxBytes {
			b = fmt.Appendf(b, " and %d bytes", len(part)-maxBytes)
		}
		i++
	}
	return string(append(b, ']'))
}

// Peer returns the peer from which the message came, or nil for one that was made here.
func (m Message) Peer() *Peer { return m.peer }

// cutPart takes the first frame off a well-formed message.
func cutPart(b []byte) (part, rest []byte) {
	_, size, n, err := wire.ParseHeader(b)
	if err != nil || n == 0 || size > int64(len(b)-n) {
		panic("zmtp: a Message that is not well formed")
	}
	end := n + int(size)
	return b[n:end:end], b[end:]
}

// counts returns how many parts m has and the sum of their sizes.
func (m Message) counts() (parts, bytes int) {
	for part := range m.Parts() {
		parts++
		bytes += len(part)
	}
	return parts, bytes
}
