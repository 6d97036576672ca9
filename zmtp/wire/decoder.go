package wire

import "math"

// MaxCommandSize bounds the body of a command after the handshake, in bytes: a subscription to the longest topic we
// accept and some room.
const MaxCommandSize = 128 << 10

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
	Start int    // where it begins: 0, but for a command inside a message
	Size  int    // how many bytes it takes; for NeedMore how long the buffer must be before Next can say more
	Parts int    // of a message: how many frames it has
	Bytes int    // of a message: the sum of its bodies
	Body  []byte // of a command: its body, aliasing the buffer
}

// Cut takes the item out of b, the buffer in which it was found, and returns which part of b is left. A command inside a
// message is cut out by moving what is shorter, the message before it or the bytes behind it; Body is invalid
// afterwards.
func (it Item) Cut(b []byte) (from, to int) {
	end := it.Start + it.Size
	if tail := len(b) - end; tail < it.Start {
		copy(b[it.Start:], b[end:])
		return 0, it.Start + tail
	}
	copy(b[it.Size:end], b[:it.Start])
	return it.Size, len(b)
}

// Decoder cuts the stream behind the handshake into messages and commands. It looks at frame headers only and copies
// nothing: the canonical form of a message is its bytes on the wire of a NULL connection.
//
// The zero Decoder is ready and bounds nothing.
type Decoder struct {
	// MaxMessageSize bounds a message in bytes, counted without the header of its first frame: for a message of one frame
	// that is libzmq's MAXMSGSIZE. 0 means no bound. The header that would go beyond it is refused before its body
	// has arrived.
	MaxMessageSize int64

	scanned int // bytes of whole frames of the unfinished message at the start of the buffer
	first   int // header size of its first frame
	parts   int // number of its frames so far
	bytes   int // sum of their bodies
}

// Next returns the first item of b. What it found in an unfinished message it remembers: the next b must begin with
// what Cut left of this one, wherever those bytes are then.
func (d *Decoder) Next(b []byte) (Item, error) {
	for {
		flags, size, n, err := ParseHeader(b[d.scanned:])
		if err != nil {
			return Item{}, err
		}
		if n == 0 {
			// What is missing of the header is not known before its first byte.
			need := d.scanned + 2
			if len(b) > d.scanned && flags&Long != 0 {
				need = d.scanned + MaxHeaderSize
			}
			return Item{Size: need}, nil
		}
		if flags&Command != 0 {
			return d.command(b, flags, size, n)
		}
		first := d.first
		if d.parts == 0 {
			first = n
		}
		if limit := d.MaxMessageSize; limit > 0 && int64(d.scanned+n-first) > limit-size {
			return Item{}, Errorf(MessageTooLarge, "message of at least %d bytes, the limit is %d",
				satAdd(int64(d.scanned+n-first), size), limit)
		}
		if size > math.MaxInt-int64(d.scanned+n) {
			return Item{}, Errorf(MessageTooLarge, "frame of %d bytes does not fit into memory", size)
		}
		end := d.scanned + n + int(size)
		if end > len(b) {
			return Item{Size: end}, nil
		}
		d.first = first
		d.scanned = end
		d.parts++
		d.bytes += int(size)
		if flags&More == 0 {
			it := Item{Kind: AMessage, Size: end, Parts: d.parts, Bytes: d.bytes}
			d.scanned, d.first, d.parts, d.bytes = 0, 0, 0, 0
			return it, nil
		}
	}
}

// Inside reports whether a message has begun and not ended.
func (d *Decoder) Inside() bool { return d.parts > 0 }

func (d *Decoder) command(b []byte, flags Flags, size int64, n int) (Item, error) {
	if flags&More != 0 {
		return Item{}, Errorf(MalformedFrame, "a command frame has the MORE bit")
	}
	if size > MaxCommandSize {
		return Item{}, Errorf(CommandTooLarge, "command of %d bytes, the limit is %d", size, MaxCommandSize)
	}
	total := n + int(size)
	end := d.scanned + total
	if end > len(b) {
		return Item{Size: end}, nil
	}
	return Item{Kind: ACommand, Start: d.scanned, Size: total, Body: b[d.scanned+n : end]}, nil
}

func satAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
