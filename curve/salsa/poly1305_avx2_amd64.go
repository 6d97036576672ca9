package salsa

// polyLanes26 are 4 accumulators of Poly1305 in limbs of 26 bits, and multipliers. h[j][i] is limb
// j of lane i. A multiplier is the limbs r0 to r4 and 5·r1 to 5·r4.
type polyLanes26 struct {
	h      [5][4]uint64
	fourth [9][4]uint64 // the fourth power of r in all lanes
	own    [9][4]uint64 // the power that each lane needs at the end
}

//go:noescape
func longAVX2(p *polyLanes26, text *byte, n int)

const mask26 = 1<<26 - 1

// blocksAVX2 adds all whole chunks of 64 bytes of the text, and returns their size.
func (p *poly1305) blocksAVX2(text []byte) int {
	// The lanes have the order in which unpacking two registers of two gives the blocks.
	var l polyLanes26
	h0, h1, h2 := p.r0, p.r1, uint64(0)
	for power, lane := range [...]int{3, 1, 2, 0} {
		if power > 0 {
			h0, h1, h2 = mulR(h0, h1, h2, p.r0, p.r1, p.r1+p.r1>>2)
		}
		for j, limb := range toLimbs26(h0, h1, h2) {
			l.own[j][lane] = limb
		}
	}
	for j := range 4 {
		for i := range 4 {
			l.own[5+j][i] = 5 * l.own[1+j][i]
		}
	}
	for j := range l.fourth {
		x := l.own[j][0]
		l.fourth[j] = [4]uint64{x, x, x, x}
	}
	const chunkSize = 64
	at := 0
	for len(text)-at >= chunkSize {
		n := min(len(text)-at, maxUninterrupted) / chunkSize
		l.h = [5][4]uint64{}
		for j, limb := range toLimbs26(p.h0, p.h1, p.h2) {
			l.h[j][0] = limb
		}
		longAVX2(&l, &text[at], n)
		at += n * chunkSize

		var a [5]uint64
		for j := range a {
			for _, limb := range l.h[j] {
				a[j] += limb
			}
		}
		p.h0, p.h1, p.h2 = fromLimbs26(a)
	}
	return at
}

// toLimbs26 splits a number of 64-bit words, below 2^131, into limbs of 26 bits. The last one may
// have 27.
func toLimbs26(w0, w1, w2 uint64) [5]uint64 {
	return [...]uint64{w0 & mask26, w0 >> 26 & mask26, (w0>>52 | w1<<12) & mask26,
		w1 >> 14 & mask26,
		w1>>40 | w2<<24}
}

// fromLimbs26 returns the number modulo 2^130-5 in 64-bit words, below 2^130. The limbs are below
// 2^60.
func fromLimbs26(a [5]uint64) (w0, w1, w2 uint64) {
	// In the third round at most a one is carried, and then the first limb was small before.
	for range 3 {
		for j := range 4 {
			a[j+1] += a[j] >> 26
			a[j] &= mask26
		}
		a[0] += 5 * (a[4] >> 26)
		a[4] &= mask26
	}
	return a[0] | a[1]<<26 | a[2]<<52, a[2]>>12 | a[3]<<14 | a[4]<<40, a[4] >> 24
}
