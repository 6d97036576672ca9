package salsa

import (
	"golang.org/x/sys/cpu"
)

// kernels returns the kernels that work on this machine. x/sys/cpu reports AVX2 and AVX-512 only if
// the operating system saves the registers.
func kernels() []kernel {
	list := []kernel{generic}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasBMI2 {
		return list
	}
	list = append(list, avx2)
	if !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512VL {
		return list
	}
	list = append(list, avx512)
	if !x.HasAVX512IFMA {
		return list
	}
	return append(list, avx512ifma)
}

//go:noescape
func fillAVX2(l *lanes, k *key, first int)

//go:noescape
func fill16AVX512(l *lanes, k *key)

//go:noescape
func fill32AVX512(l *lanes, k *key)

//go:noescape
func xorAVX2(dst, src, stream *byte, n int)

//go:noescape
func xorAVX512(dst, src, stream *byte, n int)

// fill computes at least the first n blocks. A single block takes less time in Go than in vector
// registers.
func (l *lanes) fill(k *key, n int) {
	switch {
	case use == generic || n == 1:
		l.fillGeneric(k, n)
	case use == avx2:
		for first := 0; first < n; first += 8 {
			fillAVX2(l, k, first)
		}
	case n <= 16:
		fill16AVX512(l, k)
	default:
		fill32AVX512(l, k)
	}
}

// xor does what xorGeneric does.
func xor(dst, src, stream []byte) {
	src, stream = src[:len(dst)], stream[:len(dst)]
	switch n := len(dst) / 32; {
	case use >= avx512 && len(dst) > 0:
		xorAVX512(&dst[0], &src[0], &stream[0], len(dst))
		return
	case use == avx2 && n > 0:
		xorAVX2(&dst[0], &src[0], &stream[0], n)
		dst, src, stream = dst[n*32:], src[n*32:], stream[n*32:]
	}
	xorGeneric(dst, src, stream)
}
