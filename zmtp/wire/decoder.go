package wire

import (
	"encoding/binary"
	"math"
)

// MaxCommandSize bounds the body of a command after the handshake, in bytes. It has room for a
// subscription to the longest topic that a socket accepts.
const MaxCommandSize = 128 << 10

// maxInMemory bounds a message in bytes where nothing else does. It leaves room for sums: the size
// of a frame is what the peer says.
const maxInMemory = math.MaxInt / 4

// Kind says what a Decoder found.
type Kind uint8

// The kinds of items.
const (
	NeedMore Kind = iota // no complete item
	AMessage             // a whole message
	ACommand             // a command
)

// Item is what Next found in its buffer.
type Item struct {
	Kind  Kind
	Size  int    // AMessage: its bytes are the first Size of the buffer; NeedMore: see there
	Parts int    // AMessage: the number of its frames
	Bytes int    // AMessage: the sum of its bodies
	Body  []byte // ACommand: its body, which refers to the buffer until the next call of Next

	// The next buffer must begin with the bytes From to To of this one. After NeedMore it has to be
	// Size bytes long at least.
	From, To int
}

// Decoder cuts the stream behind the handshake into messages and commands. It reads frame headers
// only: the canonical form of a message is its bytes on the wire of a NULL connection. A command
// inside a message is cut out by moving what follows, each byte once however many commands there
// are.
//
// The zero Decoder is ready for use and has no limits.
type Decoder struct {
	// MaxMessageSize bounds a message in bytes, without the header of its first frame: for a
	// message of one frame that is libzmq's ZMQ_MAXMSGSIZE. 0 is no limit. The first header that
	// exceeds the limit is refused, before its body arrives.
	MaxMessageSize int64
	// MaxParts bounds the number of frames of a message. 0 is no limit. The header of the first
	// frame above it is refused.
	MaxParts int

	scanned int // bytes of whole frames of the unfinished message at the start of the buffer
	hole    int // bytes of the commands behind them
	first   int // header size of its first frame
	parts   int // number of its frames so far
	bytes   int // sum of their bodies
}

// Next returns the first item of b, in which it may move bytes. It remembers the frames of an
// unfinished message, so the next b must begin with what is left of this one.
func (d *Decoder) Next(b []byte) (Item, error) {
	for {
		at := d.scanned + d.hole
		flags, size, n, err := ParseHeader(b[at:])
		if err != nil {
			return Item{}, err
		}
		if n == 0 {
			// The first byte tells how long the header is.
			need := 2
			if len(b) > at && flags&Long != 0 {
				need = MaxHeaderSize
			}
			return d.needMore(b, need), nil
		}
		if flags&Command != 0 {
			return d.command(b, flags, size, n)
		}
		first := d.first
		if d.parts == 0 {
			first = n
		}
		before := int64(d.scanned + n - first)
		if limit := d.MaxMessageSize; limit > 0 && before > limit-size {
			return Item{}, Errorf(MessageTooLarge, "message of at least %d bytes, the limit is %d",
				satAdd(before, size), limit)
		}
		if d.MaxParts > 0 && d.parts >= d.MaxParts {
			return Item{}, Errorf(TooManyParts, "message of more than %d parts, the limit",
				d.MaxParts)
		}
		if size > maxInMemory-int64(at+n) {
			return Item{}, Errorf(MessageTooLarge, "frame of %d bytes does not fit into memory",
				size)
		}
		end := at + n + int(size)
		if end > len(b) {
			return d.needMore(b, end-at), nil
		}
		if d.hole > 0 {
			copy(b[d.scanned:], b[at:end])
		}
		d.first = first
		d.scanned += end - at
		d.parts++
		d.bytes += int(size)
		if flags&More == 0 {
			it := Item{
				Kind: AMessage, Size: d.scanned, Parts: d.parts, Bytes: d.bytes, From: end,
				To: len(b),
			}
			d.scanned, d.hole, d.first, d.parts, d.bytes = 0, 0, 0, 0, 0
			return it, nil
		}
	}
}

// Whole is a fast Next for the usual case, in which b begins with a whole message without commands
// in it. It returns the size of the message in bytes, the number of its frames and the sum of their
// bodies. In all other cases it returns 0, and Next has to be called.
func (d *Decoder) Whole(b []byte) (size, parts, bytes int) {
	if d.parts > 0 {
		return 0, 0, 0
	}
	limit := math.MaxInt
	if d.MaxMessageSize > 0 {
		// Next decides whether the first header counts
		limit = int(min(d.MaxMessageSize, math.MaxInt))
	}
	at := 0
	for at+MaxHeaderSize <= len(b) {
		flags := Flags(b[at])
		n, body := 2, int(b[at+1])
		switch {
		case flags&^(More|Long) != 0:
			return 0, 0, 0
		case flags&Long != 0:
			u := binary.BigEndian.Uint64(b[at+1:])
			if u > uint64(len(b)) {
				return 0, 0, 0
			}
			n, body = MaxHeaderSize, int(u)
		}
		at += n + body
		if at > len(b) || at > limit {
			return 0, 0, 0
		}
		parts++
		bytes += body
		if flags&More == 0 {
			if d.MaxParts > 0 && parts > d.MaxParts {
				return 0, 0, 0
			}
			return at, parts, bytes
		}
	}
	return 0, 0, 0
}

// Inside reports whether a message has begun and not ended.
func (d *Decoder) Inside() bool { return d.parts > 0 }

// needMore closes the hole. n bytes have to follow the whole frames of the message.
func (d *Decoder) needMore(b []byte, n int) Item {
	to := len(b)
	if d.hole > 0 {
		to = d.scanned + copy(b[d.scanned:], b[d.scanned+d.hole:])
		d.hole = 0
	}
	return Item{Size: d.scanned + n, To: to}
}

func (d *Decoder) command(b []byte, flags Flags, size int64, n int) (Item, error) {
	if flags&More != 0 {
		return Item{}, Errorf(MalformedFrame, "a command frame has the MORE bit")
	}
	if size > MaxCommandSize {
		return Item{}, Errorf(CommandTooLarge, "command of %d bytes, the limit is %d",
			size, MaxCommandSize)
	}
	at := d.scanned + d.hole
	end := at + n + int(size)
	if end > len(b) {
		return d.needMore(b, end-at), nil
	}
	it := Item{Kind: ACommand, Body: b[at+n : end], To: len(b)}
	if d.parts == 0 {
		it.From = end
	} else {
		d.hole += end - at
	}
	return it, nil
}

func satAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
