package wire

import (
	"encoding/binary"
	"math"
)

// MaxCommandSize bounds the body of a command after the handshake, in bytes: a subscription to the longest topic we
// accept and some room.
const MaxCommandSize = 128 << 10

// maxInMemory bounds a message in bytes where nothing else does. It leaves room for sums: the size of a frame is what the
// peer says.
const maxInMemory = math.MaxInt / 4

// Kind says what a Decoder found.
type Kind uint8

// The kinds of items.
const (
	NeedMore Kind = iota // no complete item
	AMessage             // a whole message
	ACommand             // a command
)

// Item is one item of a stream, found in the buffer that was given to Next.
type Item struct {
	Kind  Kind
	Size  int    // of a message: its bytes are the first Size of the buffer; for NeedMore how long what is left must become
	Parts int    // of a message: how many frames it has
	Bytes int    // of a message: the sum of its bodies
	Body  []byte // of a command: its body, aliasing the buffer until the next call of Next

	// From and To say which part of the buffer is left: the next buffer must begin with it.
	From, To int
}

// Decoder cuts the stream behind the handshake into messages and commands. It looks at frame headers only: the canonical
// form of a message is its bytes on the wire of a NULL connection. What follows a command inside a message is moved
// over the command, each byte once however many commands there are.
//
// The zero Decoder is ready and bounds nothing.
type Decoder struct {
	// MaxMessageSize bounds a message in bytes, counted without the header of its first frame: for a message of one frame
	// that is libzmq's MAXMSGSIZE. 0 means no bound. The header that would go beyond it is refused before its body
	// has arrived.
	MaxMessageSize int64
	// MaxParts bounds the number of frames of a message. 0 means no bound. The header of the first frame beyond it is refused.
	MaxParts int

	scanned int // bytes of whole frames of the unfinished message at the start of the buffer
	hole    int // bytes of the commands behind them
	first   int // header size of its first frame
	parts   int // number of its frames so far
	bytes   int // sum of their bodies
}

// Next returns the first item of b, in which it may move bytes. What it found in an unfinished message it remembers: the
// next b must begin with what is left of this one, wherever those bytes are then.
func (d *Decoder) Next(b []byte) (Item, error) {
	for {
		at := d.scanned + d.hole
		flags, size, n, err := ParseHeader(b[at:])
		if err != nil {
			return Item{}, err
		}
		if n == 0 {
			// What is missing of the header is not known before its first byte.
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
			return Item{}, Errorf(MessageTooLarge, "message of at least %d bytes, the limit is %d", satAdd(before, size), limit)
		}
		if d.MaxParts > 0 && d.parts >= d.MaxParts {
			return Item{}, Errorf(TooManyParts, "message of more than %d parts, the limit", d.MaxParts)
		}
		if size > maxInMemory-int64(at+n) {
			return Item{}, Errorf(MessageTooLarge, "frame of %d bytes does not fit into memory", size)
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
			it := Item{Kind: AMessage, Size: d.scanned, Parts: d.parts, Bytes: d.bytes, From: end, To: len(b)}
			d.scanned, d.hole, d.first, d.parts, d.bytes = 0, 0, 0, 0, 0
			return it, nil
		}
	}
}

// Whole is Next for the usual case: it returns the size of the message at the start of b, the number of its frames and the
// sum of their bodies. It returns 0 when b does not begin with a whole message without commands in it, or anything is
// unusual, and then Next says what there is.
func (d *Decoder) Whole(b []byte) (size, parts, bytes int) {
	if d.parts > 0 {
		return 0, 0, 0
	}
	limit := math.MaxInt
	if d.MaxMessageSize > 0 {
		limit = int(min(d.MaxMessageSize, math.MaxInt)) // without the allowance for the first header: Next decides there
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

// needMore closes the hole; behind the whole frames of the message there must be n bytes.
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
		return Item{}, Errorf(CommandTooLarge, "command of %d bytes, the limit is %d", size, MaxCommandSize)
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
