package salsa

import (
	"encoding/binary"
	"math/bits"
)

const (
	blockSize = 64 // of the Salsa20 core, in bytes
	numLanes  = 32 // blocks that are computed together
)

// lanes are up to 32 independent blocks of key stream under one key, computed side by side. A nonce
// and the number of the block in the stream of that nonce identify a block.
type lanes struct {
	nonce  [numLanes]uint64 // the 8 bytes of the nonce as a little-endian number
	number [numLanes]uint64
	stream [numLanes * blockSize]byte
}

// sigma is "expand 32-byte k", the constant on the diagonal of the state.
var sigma = [4]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}

// fillGeneric computes the first n blocks one by one.
func (l *lanes) fillGeneric(k *key, n int) {
	for i := range n {
		block((*[blockSize]byte)(l.stream[i*blockSize:]), k, l.nonce[i], l.number[i])
	}
}

// block is the Salsa20/20 core (Bernstein, "The Salsa20 family of stream ciphers", section 4) over
// a 4 by 4 matrix of words: the constant on the diagonal, the key around it, nonce and block number
// in the middle.
func block(out *[blockSize]byte, k *key, nonce, number uint64) {
	n0, n1 := uint32(nonce), uint32(nonce>>32)
	b0, b1 := uint32(number), uint32(number>>32)
	x0, x1, x2, x3 := sigma[0], k[0], k[1], k[2]
	x4, x5, x6, x7 := k[3], sigma[1], n0, n1
	x8, x9, x10, x11 := b0, b1, sigma[2], k[4]
	x12, x13, x14, x15 := k[5], k[6], k[7], sigma[3]
	for range 10 {
		// the columns
		x4 ^= bits.RotateLeft32(x0+x12, 7)
		x9 ^= bits.RotateLeft32(x5+x1, 7)
		x14 ^= bits.RotateLeft32(x10+x6, 7)
		x3 ^= bits.RotateLeft32(x15+x11, 7)
		x8 ^= bits.RotateLeft32(x4+x0, 9)
		x13 ^= bits.RotateLeft32(x9+x5, 9)
		x2 ^= bits.RotateLeft32(x14+x10, 9)
		x7 ^= bits.RotateLeft32(x3+x15, 9)
		x12 ^= bits.RotateLeft32(x8+x4, 13)
		x1 ^= bits.RotateLeft32(x13+x9, 13)
		x6 ^= bits.RotateLeft32(x2+x14, 13)
		x11 ^= bits.RotateLeft32(x7+x3, 13)
		x0 ^= bits.RotateLeft32(x12+x8, 18)
		x5 ^= bits.RotateLeft32(x1+x13, 18)
		x10 ^= bits.RotateLeft32(x6+x2, 18)
		x15 ^= bits.RotateLeft32(x11+x7, 18)
		// the rows
		x1 ^= bits.RotateLeft32(x0+x3, 7)
		x6 ^= bits.RotateLeft32(x5+x4, 7)
		x11 ^= bits.RotateLeft32(x10+x9, 7)
		x12 ^= bits.RotateLeft32(x15+x14, 7)
		x2 ^= bits.RotateLeft32(x1+x0, 9)
		x7 ^= bits.RotateLeft32(x6+x5, 9)
		x8 ^= bits.RotateLeft32(x11+x10, 9)
		x13 ^= bits.RotateLeft32(x12+x15, 9)
		x3 ^= bits.RotateLeft32(x2+x1, 13)
		x4 ^= bits.RotateLeft32(x7+x6, 13)
		x9 ^= bits.RotateLeft32(x8+x11, 13)
		x14 ^= bits.RotateLeft32(x13+x12, 13)
		x0 ^= bits.RotateLeft32(x3+x2, 18)
		x5 ^= bits.RotateLeft32(x4+x7, 18)
		x10 ^= bits.RotateLeft32(x9+x8, 18)
		x15 ^= bits.RotateLeft32(x14+x13, 18)
	}
	le := binary.LittleEndian
	le.PutUint32(out[0:], x0+sigma[0])
	le.PutUint32(out[4:], x1+k[0])
	le.PutUint32(out[8:], x2+k[1])
	le.PutUint32(out[12:], x3+k[2])
	le.PutUint32(out[16:], x4+k[3])
	le.PutUint32(out[20:], x5+sigma[1])
	le.PutUint32(out[24:], x6+n0)
	le.PutUint32(out[28:], x7+n1)
	le.PutUint32(out[32:], x8+b0)
	le.PutUint32(out[36:], x9+b1)
	le.PutUint32(out[40:], x10+sigma[2])
	le.PutUint32(out[44:], x11+k[4])
	le.PutUint32(out[48:], x12+k[5])
	le.PutUint32(out[52:], x13+k[6])
	le.PutUint32(out[56:], x14+k[7])
	le.PutUint32(out[60:], x15+sigma[3])
}

// xorGeneric sets dst to src XOR stream, for the length of dst. dst may overlap src if it starts at
// the same byte or before it.
func xorGeneric(dst, src, stream []byte) {
	src, stream = src[:len(dst)], stream[:len(dst)]
	le := binary.LittleEndian
	for len(dst) >= 8 {
		le.PutUint64(dst, le.Uint64(src)^le.Uint64(stream))
		dst, src, stream = dst[8:], src[8:], stream[8:]
	}
	for i := range dst {
		dst[i] = src[i] ^ stream[i]
	}
}
