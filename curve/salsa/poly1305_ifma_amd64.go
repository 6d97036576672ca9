package salsa

const polyWidth = 8

// polyLanes are 8 accumulators and multipliers of Poly1305 in limbs of 44, 44 and 42 bits. h[j][i]
// is limb j of lane i.
type polyLanes struct {
	h, r [3][polyWidth]uint64
}

// laneInputs says where the lanes read.
type laneInputs struct {
	text [polyWidth]*byte // the next block
	// distance to the next block: 16, or 0 for a lane that has no text
	step [polyWidth]uintptr
	// topBit, or 0 for a lane that has no text or has the bit in its block
	bit [polyWidth]uint64
}

// topBit is the bit above a whole block, 2^128, in the third limb.
const topBit = 1 << 40

//go:noescape
func keysIFMA(p *polyLanes, keys *byte)

//go:noescape
func tagsIFMA(p *polyLanes, keys *byte, tags *byte)

//go:noescape
func longIFMA(p *polyLanes, text *byte, n int)

//go:noescape
func manyIFMA(p *polyLanes, in *laneInputs, n int)

// setR sets the multiplier of a lane.
func (p *polyLanes) setR(i int, r0, r1, r2 uint64) {
	p.r[0][i], p.r[1][i], p.r[2][i] = toLimbs(r0, r1, r2)
}

const (
	mask44 = 1<<44 - 1
	mask42 = 1<<42 - 1
)

// toLimbs splits a number of 64-bit words, below 2^131, into limbs of 44, 44 and 43 bits.
func toLimbs(w0, w1, w2 uint64) (a0, a1, a2 uint64) {
	return w0 & mask44, (w0>>44 | w1<<20) & mask44, w1>>24 | w2<<40
}

// fromLimbs is the inverse of toLimbs modulo 2^130-5, for limbs below 2^60. The result is below
// 2^130 + 2^64.
func fromLimbs(a0, a1, a2 uint64) (w0, w1, w2 uint64) {
	a1 += a0 >> 44
	a2 += a1 >> 44
	a0 = a0&mask44 + a2>>42*5
	a1 = a1&mask44 + a0>>44
	a2 = a2&mask42 + a1>>44
	a0, a1 = a0&mask44, a1&mask44
	return a0 | a1<<44, a1>>20 | a2<<24, a2 >> 40
}

// blocksIFMA adds all whole chunks of 128 bytes of the text, and returns their size.
func (p *poly1305) blocksIFMA(text []byte) int {
	// The lanes have the order in which unpacking two registers of four gives the blocks.
	var l polyLanes
	s1 := p.r1 + p.r1>>2
	h0, h1, h2 := p.r0, p.r1, uint64(0)
	for power, lane := range [polyWidth]int{7, 5, 3, 1, 6, 4, 2, 0} {
		if power > 0 {
			h0, h1, h2 = mulR(h0, h1, h2, p.r0, p.r1, s1)
		}
		l.setR(lane, h0, h1, h2)
	}
	const chunkSize = 16 * polyWidth
	at := 0
	for len(text)-at >= chunkSize {
		n := min(len(text)-at, maxUninterrupted) / chunkSize
		l.h = [3][polyWidth]uint64{}
		l.h[0][0], l.h[1][0], l.h[2][0] = toLimbs(p.h0, p.h1, p.h2)
		longIFMA(&l, &text[at], n)
		at += n * chunkSize

		var a [3]uint64
		for j := range a {
			for _, limb := range l.h[j] {
				a[j] += limb
			}
		}
		p.h0, p.h1, p.h2 = fromLimbs(a[0], a[1], a[2])
	}
	return at
}

// sumMany writes the tags of up to 8 messages. Their one-time keys are 64 bytes apart. A lane with
// fewer blocks than the longest text begins later: until then zeros are added to its accumulator,
// which stays zero.
func sumMany(tags *[polyWidth][Overhead]byte, msgs []Message, keys *[polyWidth * blockSize]byte) {
	var l polyLanes
	var in laneInputs
	var zero [16]byte
	var ends [polyWidth][16]byte // the last block of each text, 1 to 16 bytes
	var begin [polyWidth]int     // the step of the first block
	keysIFMA(&l, &keys[0])

	most := 0 // largest number of blocks before the last one
	for i := range msgs {
		most = max(most, blocksBeforeLast(len(msgs[i].sealed())))
	}
	for i := range begin {
		begin[i] = most
		if i < len(msgs) {
			begin[i] -= blocksBeforeLast(len(msgs[i].sealed()))
		}
		in.text[i] = &zero[0]
	}
	for at := 0; at < most; {
		until := most
		for i, b := range begin {
			switch {
			case b > at:
				until = min(until, b)
			case b < most:
				in.text[i], in.step[i], in.bit[i] = &msgs[i].sealed()[(at-b)*16], 16, topBit
			}
		}
		manyIFMA(&l, &in, until-at)
		at = until
	}
	for i := range msgs {
		text := msgs[i].sealed()
		end := text[blocksBeforeLast(len(text))*16:]
		in.text[i], in.bit[i] = &ends[i][0], 0
		if copy(ends[i][:], end) == 16 {
			in.bit[i] = topBit
		} else if len(end) > 0 {
			ends[i][len(end)] = 1
		}
	}
	manyIFMA(&l, &in, 1)
	tagsIFMA(&l, &keys[0], &tags[0][0])
}

func blocksBeforeLast(size int) int { return max(size-1, 0) / 16 }

// manyPays reports whether computing the tags at once probably takes less time than one by one. The
// unit is about a nanosecond on a Zen 5. An error by a factor of two elsewhere does no harm.
func manyPays(msgs []Message) bool {
	each, most := 0, 0
	for i := range msgs {
		size := len(msgs[i].sealed())
		blocks := size / 16
		most = max(most, blocks)
		if size < longMinIFMA {
			each += 10 + 5*blocks
		} else {
			each += 80 + blocks*2/3 + blocks%polyWidth*5
		}
	}
	return 60+4*len(msgs)+9*most < each
}
