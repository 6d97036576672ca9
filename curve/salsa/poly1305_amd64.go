package salsa

// Lengths of a text from which several blocks at once take less time than one after the other,
// although they need powers of r. Measured on a Zen 5.
const (
	longMinAVX2 = 640
	longMinIFMA = 384
)

// maxUninterrupted is the largest number of bytes in one call of assembly, some 100 µs. Go cannot
// preempt assembly, so the garbage collector would wait longer.
const maxUninterrupted = 1 << 20

// sum computes the tags of the messages: eight at once, or one by one if that takes less time.
func (c *Cipher) sum(tags *[groupSize][Overhead]byte, group []Message) {
	for at := 0; at < len(group); at += polyWidth {
		part := group[at:min(at+polyWidth, len(group))]
		if use == avx512ifma && manyPays(part) {
			sumMany((*[polyWidth][Overhead]byte)(tags[at:]), part,
				(*[polyWidth * blockSize]byte)(c.head.stream[at*blockSize:]))
			continue
		}
		for i := range part {
			sumOne(&tags[at+i], part[i].sealed(),
				(*[macKeySize]byte)(c.head.stream[(at+i)*blockSize:]))
		}
	}
}

// sumOne writes the tag of text under a one-time key.
func sumOne(out *[Overhead]byte, text []byte, key *[macKeySize]byte) {
	var p poly1305
	p.init(key)
	at := 0
	switch {
	case use == avx512ifma && len(text) >= longMinIFMA:
		at = p.blocksIFMA(text)
	case (use == avx2 || use == avx512) && len(text) >= longMinAVX2:
		at = p.blocksAVX2(text)
	}
	p.end(out, text[at:], key)
}
