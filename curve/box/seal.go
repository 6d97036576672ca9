package box

import (
	"slices"

	"zmtpd/zmtp/wire"
)

// A Sealer encrypts the frames that one connection sends. It is not safe for concurrent use: frames
// must be sent in the order of their nonces. It takes some 4 KiB of memory.
type Sealer struct {
	batch
	nonce uint64 // of the next MESSAGE
}

// NewSealer returns a Sealer for the frames that side d sends. shared is the result of
// crypto_box_beforenm for the short-term keys of the two sides. nonce is that of the first MESSAGE.
func NewSealer(shared *[32]byte, d Direction, nonce uint64) *Sealer {
	s := &Sealer{nonce: nonce}
	s.init(shared, d)
	return s
}

// Seal appends to dst one MESSAGE frame for each frame in frames, a sequence of whole frames in the
// form in which NULL sends them. dst must not overlap frames. As in libzmq the outer flags are
// neither COMMAND nor MORE. It allocates only if the capacity of dst is too small. It panics if a
// frame is incomplete.
func (s *Sealer) Seal(dst, frames []byte) []byte {
	for len(frames) > 0 {
		size := 0 // size of the batch, sealed
		end := 0  // end of the batch in frames
		for n := 0; end < len(frames) && n < maxBatch && size < batchSize; n++ {
			_, body, whole := cut(frames[end:])
			end += whole
			size += wire.FrameSize(len(body) + Overhead)
		}
		dst = slices.Grow(dst, size)
		messages := s.messages[:0]
		for rest := frames[:end]; len(rest) > 0; {
			flags, body, whole := cut(rest)
			rest = rest[whole:]
			messages = messages[:len(messages)+1]
			dst, messages[len(messages)-1] = appendMessage(dst, s.nonce, flags, body)
			s.nonce++
		}
		s.cipher.Seal(messages)
		clear(messages)
		frames = frames[end:]
	}
	return dst
}

// cut returns flags and body of the first frame, and its size in bytes.
func cut(frames []byte) (flags wire.Flags, body []byte, whole int) {
	flags, size, n, err := wire.ParseHeader(frames)
	if err != nil || n == 0 || size > int64(len(frames)-n) {
		panic("box: Seal has got an incomplete frame")
	}
	whole = n + int(size)
	return flags, frames[n:whole], whole
}
