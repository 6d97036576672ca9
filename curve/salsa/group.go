package salsa

import (
	"math/bits"
)

// groupSize is the largest number of messages in a group. A group goes through these steps
// together:
//
//  1. start computes the first block of key stream of each message. Its first 32 bytes are the key
//     of the message's tag, the other half encrypts the first 32 bytes of the text.
//  2. sum computes the tags: after crypt to seal, before it to open. A message is opened only if
//     its tag is right.
//  3. crypt encrypts or decrypts the messages in order. It computes further blocks when it needs
//     them, one for each lane, for this message and the next ones.
//
// Both slices of a message end with the text; the longer one begins with the tag. So no step
// depends on the direction.
const groupSize = 16

// macKeySize is the size in bytes of the key of a message's tag, the beginning of its key stream.
const macKeySize = 32

// textSize returns the size of the message without its tag.
func (m *Message) textSize() int { return min(len(m.Dst), len(m.Src)) }

// sealed returns the encrypted text, over which the tag is computed.
func (m *Message) sealed() []byte {
	if len(m.Dst) > len(m.Src) {
		return m.Dst[Overhead:]
	}
	return m.Src[Overhead:]
}

// place identifies a block of key stream of a group: the message, and the number of the block in
// its stream.
type place struct{ msg, block int }

func (c *Cipher) start(group []Message) {
	for i := range group {
		c.head.nonce[i], c.head.number[i] = bits.ReverseBytes64(group[i].Nonce), 0
	}
	c.next = place{0, 1}
	n := c.plan(&c.head, len(group), group)
	c.head.fill(&c.key, n)
}

// plan assigns the next blocks to the free lanes, from n on, and returns the number of lanes in
// use.
func (c *Cipher) plan(l *lanes, n int, group []Message) int {
	at := c.next
	for at.msg < len(group) && n < numLanes {
		m := &group[at.msg]
		nonce := bits.ReverseBytes64(m.Nonce)
		all := (macKeySize + m.textSize() + blockSize - 1) / blockSize
		for ; at.block < all && n < numLanes; n++ {
			l.nonce[n], l.number[n] = nonce, uint64(at.block)
			at.block++
		}
		if at.block >= all {
			at = place{at.msg + 1, 1}
		}
	}
	c.next = at
	return n
}

// crypt writes the first n messages of the group.
func (c *Cipher) crypt(group []Message, n int) {
	stream := c.head.stream[len(group)*blockSize:]
	for i := range n {
		m := &group[i]
		size := m.textSize()
		dst, src := m.Dst[len(m.Dst)-size:], m.Src[len(m.Src)-size:]
		at := min(size, blockSize-macKeySize)
		xor(dst[:at], src, c.head.stream[i*blockSize+macKeySize:])
		if size > 0 {
			dst[0] ^= m.Flip
		}
		for at < size {
			if len(stream) == 0 {
				c.tail.fill(&c.key, c.plan(&c.tail, 0, group))
				stream = c.tail.stream[:]
			}
			end := min(at+len(stream), size)
			xor(dst[at:end], src[at:], stream)
			stream = stream[(end-at+blockSize-1)/blockSize*blockSize:]
			at = end
		}
	}
}
