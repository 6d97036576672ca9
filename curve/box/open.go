package box

import (
	"slices"

	"zmtpd/curve/salsa"
	"zmtpd/zmtp/wire"
)

// An Opener decrypts the frames that one connection receives. It is not for concurrent use. It
// takes some 4 KiB of memory.
type Opener struct {
	batch
	last uint64 // nonce of the last frame of the peer
}

// NewOpener returns an Opener for the frames that side d sends. shared is as for [NewSealer]. last
// is the nonce of READY or INITIATE, the peer's last command before its first MESSAGE: nonces must
// grow.
func NewOpener(shared *[32]byte, d Direction, last uint64) *Opener {
	o := &Opener{last: last}
	o.init(shared, d)
	return o
}

// Open appends to dst the frames inside stream, a sequence of whole MESSAGE frames, in the form in
// which NULL sends them. dst must not overlap stream. It appends at most len(stream) bytes, and
// allocates only if the capacity of dst is smaller; it may write to that capacity beyond the
// result. The outer flags MORE and COMMAND are ignored.
//
// An error is a [*wire.Error]; the frames before it are appended, and the connection must be
// closed. A frame that the holder of the key has not sealed is neither returned nor written to
// memory.
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
				err = e // once the frames before it are open
				break
			}
			read += n
			// The inner octet of flags goes to the place of the header's last octet.
			body := len(sealed) - salsa.Overhead - 1
			end += wire.FrameSize(body)
			messages = append(messages,
				salsa.Message{Nonce: nonce, Dst: dst[end-body-1 : end], Src: sealed})
		}
		stream = stream[read:]

		good := o.cipher.Open(messages)
		for _, m := range messages[:good] {
			body := len(m.Dst) - 1
			wire.AppendHeader(dst, outerFlags(m.Dst[0]), body) // in front of the body
			dst = dst[:len(dst)+wire.FrameSize(body)]
		}
		if good < len(messages) {
			err = wire.Errorf(wire.Cryptographic, "MESSAGE %d cannot be opened",
				messages[good].Nonce)
		}
		clear(messages)
	}
	return dst, err
}

// next parses the first frame of stream. whole is the size of the frame in bytes.
func (o *Opener) next(stream []byte) (nonce uint64, sealed []byte, whole int, err error) {
	_, size, n, err := wire.ParseHeader(stream)
	if err != nil {
		return 0, nil, 0, err
	}
	if n == 0 || size > int64(len(stream)-n) {
		return 0, nil, 0, wire.Errorf(wire.MalformedFrame,
			"the end of a protected frame is missing")
	}
	whole = n + int(size)
	nonce, sealed, err = parseMessage(stream[n:whole], o.last)
	if err == nil {
		o.last = nonce
	}
	return nonce, sealed, whole, err
}
