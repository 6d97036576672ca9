package salsa

import (
	"golang.org/x/sys/cpu"
)

// x/sys/cpu says that a processor has AVX2 or AVX-512 only if the operating system saves the registers.
func ciphers() []cipher {
	list := []cipher{cipherGeneric}
	if cpu.X86.HasAVX2 {
		list = append(list, cipherAVX2)
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasBMI2 {
		list = append(list, cipherAVX512)
	}
	return list
}

var hasIFMA = cpu.X86.HasAVX512F && cpu.X86.HasAVX512IFMA && cpu.X86.HasAVX512VL

// useIFMA is for tests to change.
var useIFMA = hasIFMA

//go:noescape
func fillAVX2(l *lanes, k *key, first int)

//go:noescape
func fillAVX512(l *lanes, k *key)

//go:noescape
func xorAVX2(dst, src, stream *byte, n int)

//go:noescape
func xorAVX512(dst, src, stream *byte, n int)

// fill computes the first n blocks, and some of the others.
func (l *lanes) fill(k *key, n int) {
	switch useCipher {
	case cipherAVX512:
		fillAVX512(l, k)
	case cipherAVX2:
		for first := 0; first < n; first += 8 {
			fillAVX2(l, k, first)
		}
	default:
		l.fillGeneric(k, n)
	}
}

// xor is xorGeneric.
func xor(dst, src, stream []byte) {
	src, stream = src[:len(dst)], stream[:len(dst)]
	switch n := len(dst) / 32; {
	case useCipher == cipherAVX512 && len(dst) > 0:
		xorAVX512(&dst[0], &src[0], &stream[0], len(dst))
		return
	case useCipher == cipherAVX2 && n > 0:
		xorAVX2(&dst[0], &src[0], &stream[0], n)
		dst, src, stream = dst[n*32:], src[n*32:], stream[n*32:]
	}
	xorGeneric(dst, src, stream)
}
