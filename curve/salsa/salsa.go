package salsa

import (
	"crypto/subtle"
	"encoding/binary"
)

// Overhead is how much longer a sealed message is than its text, in bytes: the tag in front of it.
const Overhead = 16

// Cipher seals and opens the messages that go in one direction of a connection. It has about 5 KiB of working memory,
// which contains secrets: overwrite it with Cipher{} when the connection has ended. It is not for concurrent use.
type Cipher struct {
	key  key
	head lanes // of a group: the first block of each message, and what comes next if there is room
	tail lanes // of a group: other blocks
	next place // of a group: what is in neither yet
}

// key is a Salsa20 key as little-endian words.
type key [8]uint32

// Init derives the Salsa20 key that xsalsa20-poly1305 uses for all nonces that begin with prefix: HSalsa20 of the two
// (Bernstein, "Extending the Salsa20 nonce", section 2). shared is what both sides have from their key pairs, the result
// of crypto_box_beforenm.
func (c *Cipher) Init(shared *[32]byte, prefix *[16]byte) {
	le := binary.LittleEndian
	var k key
	for i := range k {
		k[i] = le.Uint32(shared[4*i:])
	}
	var out [blockSize]byte
	block(&out, &k, le.Uint64(prefix[0:]), le.Uint64(prefix[8:]))

	// HSalsa20 is the core without the addition at its end, and of that the words of the constant and of the nonce.
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
	// Nonce is the number which, in big-endian form, is the last 8 of the 24 bytes of the nonce. The caller sees to it
	// that none is used twice for sealing.
	Nonce uint64

	// Dst is where the result goes, all of it is written: for Seal it is Overhead bytes longer than Src, for Open as much
	// shorter. Another length is a mistake of the caller, and panics.
	//
	// The text in Dst (for Seal, Dst[Overhead:]) may share memory with the text in Src (for Open, Src[Overhead:]) if it starts
	// at the same byte or at an earlier one: messages can be sealed and opened in place, and while they are moved
	// towards the start of a buffer. Dst of one message must not share memory with Src of a later one.
	Dst, Src []byte

	// Flip is XORed into the first byte of the text on its way from Src to Dst. A text whose first byte is to be another than
	// that in Src, which must perhaps not be changed, needs no copy.
	Flip byte
}

// Seal seals every message: Dst becomes the tag and the encrypted text. It does not allocate.
//
// Give it all messages there are: they are computed side by side, and eight small ones take little longer than one.
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

// Open checks and decrypts the messages in order; Src is what Seal has made. It returns how many are good: it ends at the
// first one that is refused, and writes nothing of that one and of those after it. It does not allocate.
func (c *Cipher) Open(msgs []Message) int {
	whole := len(msgs)
	for i := range msgs {
		if len(msgs[i].Src) < Overhead {
			whole = i // too short to have a tag
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
		for good < len(group) && subtle.ConstantTimeCompare(tags[good][:], group[good].Src[:Overhead]) == 1 {
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
