package salsa

import (
	"encoding/binary"
	"math/bits"
)

// poly1305 is the state of Poly1305 (RFC 8439, section 2.5) in 64-bit words: the accumulator h0 +
// h1·2^64 + h2·2^128, kept below 2^131, and the clamped multiplier r0 + r1·2^64.
//
// The modulus is 2^130-5. Clamping clears the lowest two bits of r1. So the part of a product with
// r1 that is at 2^128 and above is equal, modulo 2^130-5, to a product with the integer s1 =
// r1/4·5.
type poly1305 struct {
	h0, h1, h2 uint64
	r0, r1     uint64
}

// bits of r that may be set
const (
	clamp0 = 0x0ffffffc0fffffff
	clamp1 = 0x0ffffffc0ffffffc
)

// init sets r, the first half of the one-time key.
func (p *poly1305) init(key *[32]byte) {
	*p = poly1305{
		r0: binary.LittleEndian.Uint64(key[0:]) & clamp0,
		r1: binary.LittleEndian.Uint64(key[8:]) & clamp1,
	}
}

// blocks adds whole blocks of 16 bytes.
func (p *poly1305) blocks(text []byte) {
	h0, h1, h2 := p.h0, p.h1, p.h2
	r0, r1 := p.r0, p.r1
	s1 := r1 + r1>>2
	for ; len(text) >= 16; text = text[16:] {
		var c uint64
		h0, c = bits.Add64(h0, binary.LittleEndian.Uint64(text), 0)
		h1, c = bits.Add64(h1, binary.LittleEndian.Uint64(text[8:]), c)
		h2 += c + 1
		h0, h1, h2 = mulR(h0, h1, h2, r0, r1, s1)
	}
	p.h0, p.h1, p.h2 = h0, h1, h2
}

// last adds the end of the text, fewer than 16 bytes, followed by a one.
func (p *poly1305) last(text []byte) {
	if len(text) == 0 {
		return
	}
	var b [16]byte
	b[copy(b[:], text)] = 1
	var c uint64
	h0, c := bits.Add64(p.h0, binary.LittleEndian.Uint64(b[0:]), 0)
	h1, c := bits.Add64(p.h1, binary.LittleEndian.Uint64(b[8:]), c)
	p.h0, p.h1, p.h2 = mulR(h0, h1, p.h2+c, p.r0, p.r1, p.r1+p.r1>>2)
}

// mulR returns h·r, reduced to below 2^131. h2 is at most 8.
func mulR(h0, h1, h2, r0, r1, s1 uint64) (uint64, uint64, uint64) {
	// The columns: 2^0 has h0·r0 + h1·s1, 2^64 has h0·r1 + h1·r0 + h2·s1, 2^128 has h2·r0.
	ah, al := bits.Mul64(h0, r0)
	bh, bl := bits.Mul64(h1, s1)
	dh, dl := bits.Mul64(h0, r1)
	eh, el := bits.Mul64(h1, r0)

	al, c := bits.Add64(al, bl, 0)
	ah, _ = bits.Add64(ah, bh, c)
	dl, c = bits.Add64(dl, el, 0)
	dh, _ = bits.Add64(dh, eh, c)
	dl, c = bits.Add64(dl, h2*s1, 0)
	dh += c

	h1, c = bits.Add64(dl, ah, 0)
	h2 = h2*r0 + dh + c

	// the part above 2^130 comes back times five
	top := h2&^3 + h2>>2
	h0, c = bits.Add64(al, top, 0)
	h1, c = bits.Add64(h1, 0, c)
	return h0, h1, h2&3 + c
}

// tag writes h mod 2^130-5 plus the second half of the one-time key.
func (p *poly1305) tag(out *[16]byte, key *[32]byte) {
	// Subtract p unless the result is negative. h is below 2^131, which is less than 2p+10, so
	// twice is enough.
	h0, h1, h2 := p.h0, p.h1, p.h2
	for range 2 {
		t0, b := bits.Sub64(h0, ^uint64(4), 0)
		t1, b := bits.Sub64(h1, ^uint64(0), b)
		t2, b := bits.Sub64(h2, 3, b)
		keep := -b // all ones if h is below p
		h0 = h0&keep | t0&^keep
		h1 = h1&keep | t1&^keep
		h2 = h2&keep | t2&^keep
	}
	h0, c := bits.Add64(h0, binary.LittleEndian.Uint64(key[16:]), 0)
	h1, _ = bits.Add64(h1, binary.LittleEndian.Uint64(key[24:]), c)
	binary.LittleEndian.PutUint64(out[0:], h0)
	binary.LittleEndian.PutUint64(out[8:], h1)
}

// end adds the rest of the text and writes the tag.
func (p *poly1305) end(out *[16]byte, text []byte, key *[32]byte) {
	p.blocks(text)
	p.last(text[len(text)&^15:])
	p.tag(out, key)
}
