package box

import (
	"slices"

	"zmtpd/zmtp/wire"
)

// A Sealer protects what is sent on one connection. It is not for concurrent use: nonces go out in the order in which frames
// come in. It takes some 4 KiB.
type Sealer struct {
	batch
	nonce uint64 // of the next MESSAGE
}

// NewSealer returns a Sealer for what the side d sends. shared is the key that crypto_box_beforenm makes of the two sides'
// short-term keys; nonce is the number of the first MESSAGE.
func NewSealer(shared *[32]byte, d Direction, nonce uint64) *Sealer {
	s := &Sealer{nonce: nonce}
	s.init(shared, d)
	return s
}

// Seal appends the MESSAGE frames for frames, a sequence of whole frames as NULL would send them, to dst, which must not
// overlap them. The outer flags are those that libzmq sends: neither COMMAND nor MORE. It allocates only if dst is too
// small. It panics if the frames are not whole.
func (s *Sealer) Seal(dst, frames []byte) []byte {
	for len(frames) > 0 {
		size := 0 // of the batch, sealed
		end := 0  // of the batch in frames
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

// cut returns the first of frames, and how many bytes it takes.
func cut(frames []byte) (flags wire.Flags, body []byte, whole int) {
	flags, size, n, err := wire.ParseHeader(frames)
	if err != nil || n == 0 || size > int64(len(frames)-n) {
		panic("box: Seal of something else than whole frames")
	}
	whole = n + int(size)
	return flags, frames[n:whole], whole
}
