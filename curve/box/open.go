package box

import (
	"slices"

	"zmtpd/curve/salsa"
	"zmtpd/zmtp/wire"
)

// An Opener decrypts the frames that one connection receives. It is not safe for concurrent use. It
// takes some 4 KiB of memory.
type Opener struct {
	batch
	last uint64 // of the peer's last frame
}

// NewOpener returns an Opener for the frames that side d sends. shared is as in [NewSealer]. last
// is the nonce of READY or INITIATE, the peer's last command before its first MESSAGE: nonces must
// grow.
func NewOpener(shared *[32]byte, d Direction, last uint64) *Opener {
	o := &Opener{last: last}
	o.init(shared, d)
	return o
}

// Open appends to dst the frames inside stream, in the form in which NULL sends them. stream is a
// sequence of whole MESSAGE frames and must not overlap dst. Open appends at most len(stream)
// bytes. It allocates only if the capacity of dst is smaller, and may write to that capacity beyond
// the result. It ignores the outer flags MORE and COMMAND.
//
// The error is a [*wire.Error]. Then the frames in front of the faulty one are appended, and the
// connection must be closed. Open neither returns nor writes to memory a frame that the holder of
// the key has not sealed.
func (o *Opener) Open(dst, stream []byte) ([]byte, error) {
	dst = slices.Grow(dst, len(stream))
	var err error
	for len(stream) > 0 && err == nil {
		messages := o.messages[:0]
		read := 0
		end := len(dst) // end of the batch's frames
		for read < len(stream) && len(messages) < maxBatch && read < batchSize {
			nonce, sealed, n, e := o.next(stream[read:])
			if e != nil {
				err = e // returned when the frames in front are open
				break
			}
			read += n
			// The inner octet of flags lands on the last octet of the header, which is written
			// later.
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
			"a protected frame is incomplete")
	}
	whole = n + int(size)
	nonce, sealed, err = parseMessage(stream[n:whole], o.last)
	if err == nil {
		o.last = nonce
	}
	return nonce, sealed, whole, err
}
