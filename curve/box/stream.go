package box

import (
	"encoding/binary"

	//lint:ignore SA1019 crypto_box is this Poly1305, and nothing that is not deprecated has it alone
	"golang.org/x/crypto/poly1305"
	//lint:ignore SA1019 salsa20 takes nonces of 8 or 24 bytes, but has no way to begin in the middle of a block
	"golang.org/x/crypto/salsa20/salsa"
)

const (
	keySize = 32
	tagSize = poly1305.TagSize

	blockSize = 64
)

// xor encrypts or decrypts all lanes: dst becomes src XOR the key stream of (key, nonce) from its 33rd octet on, and the
// first 32 octets of the key stream become the lane's Poly1305 key. A lane's dst and src have the same length and do not
// overlap.
func xor(key *[keySize]byte, lanes []lane) {
	for i := range lanes {
		l := &lanes[i]
		var counter [16]byte
		binary.BigEndian.PutUint64(counter[:], l.nonce)
		var first [blockSize]byte
		n := keySize + copy(first[keySize:], l.src)
		salsa.XORKeyStream(first[:n], first[:n], &counter, key)
		l.key = [keySize]byte(first[:])
		n = copy(l.dst, first[keySize:n])
		counter[8] = 1 // the number of the block, little-endian
		salsa.XORKeyStream(l.dst[n:], l.src[n:], &counter, key)
	}
}

// sum computes the tag of a ciphertext under the Poly1305 key of its lane.
func sum(tag *[tagSize]byte, ciphertext []byte, key *[keySize]byte) {
	poly1305.Sum(tag, ciphertext, key)
}

// deriveKey is what XSalsa20 makes of a key and the first 16 octets of a nonce.
func deriveKey(shared *[keySize]byte, prefix string) (key [keySize]byte) {
	salsa.HSalsa20(&key, (*[16]byte)([]byte(prefix)), shared, &salsa.Sigma)
	return key
}
