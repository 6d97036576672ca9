package box

import (
	"slices"

	"zmtpd/curve/salsa"
	"zmtpd/zmtp/wire"
)

// An Opener takes the protection off what is received on one connection. It is not for concurrent use. It takes some 4 KiB.
type Opener struct {
	batch
	last uint64 // nonce of the last frame of the peer
}

// NewOpener returns an Opener for what the side d sends. shared is as for [NewSealer]; last is the number of the peer's last
// command before its first MESSAGE, READY or INITIATE: every MESSAGE must have a larger one than what came before.
func NewOpener(shared *[32]byte, d Direction, last uint64) *Opener {
	o := &Opener{last: last}
	o.init(shared, d)
	return o
}

// Open appends to dst the frames that are protected in stream, a sequence of whole frames, as NULL would send them. dst must not
// overlap stream. It appends at most len(stream) bytes and allocates only if dst has no room for so many; it may write to
// that room beyond what it returns. Outer MORE and COMMAND are not looked at, only what is protected counts.
//
// With an error, which is a [*wire.Error], what was before the fault is appended, and the connection must be closed. What was
// not sealed by the holder of the key is neither returned nor written anywhere.
func (o *Opener) Open(dst, stream []byte) ([]byte, error) {
	dst = slices.Grow(dst, len(stream))
	var err error
	for len(stream) > 0 && err == nil {
		messages := o.messages[:0]
		read := 0
		end := len(dst) // of the frames of the batch
		for read < len(stream) && len(messages) < maxBatch && read < batchSize {
			nonce, sealed, n, e := o.next(stream[read:])
			if e != nil {
				err = e // after what was before
				break
			}
			read += n
			// The octet of flags goes where the last one of the header will be.
			body := len(sealed) - salsa.Overhead - 1
			end += wire.FrameSize(body)
			messages = append(messages, salsa.Message{Nonce: nonce, Dst: dst[end-body-1 : end], Src: sealed})
		}
		stream = stream[read:]

		good := o.cipher.Open(messages)
		for _, m := range messages[:good] {
			body := len(m.Dst) - 1
			wire.AppendHeader(dst, outerFlags(m.Dst[0]), body) // into the room in front of the body
			dst = dst[:len(dst)+wire.FrameSize(body)]
		}
		if good < len(messages) {
			err = wire.Errorf(wire.Cryptographic, "MESSAGE %d cannot be opened", messages[good].Nonce)
		}
		clear(messages)
	}
	return dst, err
}

// next takes the first frame of stream apart, and returns how many bytes it takes.
func (o *Opener) next(stream []byte) (nonce uint64, sealed []byte, whole int, err error) {
	_, size, n, err := wire.ParseHeader(stream)
	if err != nil {
		return 0, nil, 0, err
	}
	if n == 0 || size > int64(len(stream)-n) {
		return 0, nil, 0, wire.Errorf(wire.MalformedFrame, "the end of a protected frame is missing")
	}
	whole = n + int(size)
	nonce, sealed, err = parseMessage(stream[n:whole], o.last)
	if err == nil {
		o.last = nonce
	}
	return nonce, sealed, whole, err
}
