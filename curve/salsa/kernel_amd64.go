package salsa

import (
	"golang.org/x/sys/cpu"
)

// ciphers returns what can be used here, the fastest last. x/sys/cpu says that a processor has AVX or AVX-512 only if the
// operating system saves the registers.
func ciphers() []cipher {
	list := []cipher{cipherGeneric}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasBMI2 {
		list = append(list, cipherAVX512)
	}
	return list
}

//go:noescape
func fillAVX512(l *lanes, k *key)

//go:noescape
func xorAVX512(dst, src, stream *byte, n int)

// fill computes the first n blocks. Which of the others are computed as well depends on the cipher.
func (l *lanes) fill(k *key, n int) {
	switch useCipher {
	case cipherAVX512:
		fillAVX512(l, k)
	default:
		l.fillGeneric(k, n)
	}
}

// xor sets dst to src XOR stream, all of which have the length of dst. dst may overlap src if it does not start after it.
func xor(dst, src, stream []byte) {
	src, stream = src[:len(dst)], stream[:len(dst)]
	if len(dst) > 0 && useCipher == cipherAVX512 {
		xorAVX512(&dst[0], &src[0], &stream[0], len(dst))
		return
	}
	xorGeneric(dst, src, stream)
}
