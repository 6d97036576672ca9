package salsa

import (
	"crypto/subtle"
	"encoding/binary"
)

// Overhead is the size in bytes of the tag in front of a sealed text.
const Overhead = 16

// Cipher seals and opens the messages of one direction of a connection. It contains some 5 KiB of
// working memory with secrets: overwrite it with Cipher{} at the end of the connection. It is not
// safe for concurrent use.
type Cipher struct {
	key  key
	head lanes // the first block of each message of a group and, where there is room, later ones
	tail lanes // other blocks of the group
	next place // the first block that is in neither
}

// key is a Salsa20 key as little-endian words.
type key [8]uint32

// Init derives the Salsa20 key that xsalsa20-poly1305 uses for all nonces that begin with prefix:
// HSalsa20 of the two (Bernstein, "Extending the Salsa20 nonce", section 2). shared is the result
// of crypto_box_beforenm.
func (c *Cipher) Init(shared *[32]byte, prefix *[16]byte) {
	le := binary.LittleEndian
	var k key
	for i := range k {
		k[i] = le.Uint32(shared[4*i:])
	}
	var out [blockSize]byte
	block(&out, &k, le.Uint64(prefix[0:]), le.Uint64(prefix[8:]))

	// HSalsa20 is the core without its final addition. Its result are the words in the places of
	// the constant and the nonce.
	word := func(i int) uint32 { return le.Uint32(out[4*i:]) }
	for i := range 4 {
		c.key[i] = word(5*i) - sigma[i]
		c.key[4+i] = word(6+i) - le.Uint32(prefix[4*i:])
	}
	clear(k[:])
	clear(out[:])
}

// Message is one message to seal or to open. The memory stays the caller's.
type Message struct {
	// Nonce is the last 8 bytes of the nonce of 24, as a big-endian number. The caller must not
	// seal two messages with the same Nonce.
	Nonce uint64

	// Dst receives the result. For Seal it is Overhead bytes longer than Src, for Open Overhead
	// bytes shorter. Seal and Open panic on other lengths.
	//
	// The text in Dst (for Seal, Dst[Overhead:]) may share memory with the text in Src (for Open,
	// Src[Overhead:]) if it starts at the same byte or before it. So messages can be sealed and
	// opened in place, and moved towards the start of a buffer. Dst of a message must not share
	// memory with Src of a later one.
	Dst, Src []byte

	// Flip is XORed into the first byte of the text on its way from Src to Dst.
	Flip byte
}

// Seal seals every message: Dst becomes the tag and the encrypted text. It does not allocate. Pass
// all messages at once: they are computed side by side, and eight small messages take little longer
// than one.
func (c *Cipher) Seal(msgs []Message) {
	for i := range msgs {
		if len(msgs[i].Dst) != len(msgs[i].Src)+Overhead {
			panic("salsa: Seal with a destination of the wrong length")
		}
	}
	for len(msgs) > 0 {
		group := msgs[:min(groupSize, len(msgs))]
		msgs = msgs[len(group):]
		c.start(group)
		c.crypt(group, len(group))
		var tags [groupSize][Overhead]byte
		c.sum(&tags, group)
		for i := range group {
			copy(group[i].Dst, tags[i][:])
		}
	}
}

// Open checks and decrypts sealed messages in order, and returns the number of good ones. It stops
// at the first bad one, and does not write to the Dst of that one and of those behind it. It does
// not allocate.
func (c *Cipher) Open(msgs []Message) int {
	whole := len(msgs)
	for i := range msgs {
		if len(msgs[i].Src) < Overhead {
			whole = i // too short for a tag
			break
		}
		if len(msgs[i].Dst) != len(msgs[i].Src)-Overhead {
			panic("salsa: Open with a destination of the wrong length")
		}
	}
	for at := 0; at < whole; {
		group := msgs[at:min(at+groupSize, whole)]
		c.start(group)
		var tags [groupSize][Overhead]byte
		c.sum(&tags, group)
		good := 0
		for good < len(group) && subtle.ConstantTimeCompare(tags[good][:],
			group[good].Src[:Overhead]) == 1 {
			good++
		}
		c.crypt(group, good)
		at += good
		if good < len(group) {
			return at
		}
	}
	return whole
}
