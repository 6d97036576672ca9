package zeek

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// appendUint appends v in decimal. It is fast for numbers of one digit, as most in logs are. It
// writes longer ones in place, since copying them there would take longer.
func appendUint(dst []byte, v uint64) []byte {
	if v < 10 {
		return append(dst, '0'+byte(v))
	}
	n := uintLen(v)
	start := len(dst)
	if cap(dst)-start < n {
		dst = slices.Grow(dst, n)
	}
	dst = dst[:start+n]
	digits := dst[start:]
	for v >= 100 {
		pair := digitPairs[v%100*2:]
		v /= 100
		n -= 2
		digits[n], digits[n+1] = pair[0], pair[1]
	}
	if n == 2 {
		digits[0], digits[1] = digitPairs[v*2], digitPairs[v*2+1]
	} else {
		digits[0] = '0' + byte(v)
	}
	return dst
}

// uintLen returns the number of digits of v.
func uintLen(v uint64) int {
	// 1233/4096 is a little more than log10(2).
	n := bits.Len64(v|1) * 1233 >> 12
	if v >= powers10[n] {
		n++
	}
	return n
}

var powers10 = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

const digitPairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869" +
	"707172737475767778798081828384858687888990919293949596979899"

// appendFixed6 appends v with exactly six decimals, as logs show times and intervals. It rounds
// half to even on the exact value. It may write -0.000000, inf, -inf, nan and -nan.
func appendFixed6(dst []byte, v float64) []byte {
	const (
		fracBits = 52
		bias     = 1023
	)
	b := math.Float64bits(v)
	if b>>63 != 0 {
		dst = append(dst, '-')
	}
	exp := int(b>>fracBits&0x7ff) - bias
	mant := b&(1<<fracBits-1) | 1<<fracBits
	if exp >= fracBits {
		switch {
		case v != v:
			return append(dst, "nan"...)
		case exp == 0x7ff-bias:
			return append(dst, "inf"...)
		}
		return strconv.AppendFloat(dst, math.Abs(v), 'f', 6, 64) // v is whole
	}

	// v = mant·2^-shift, so the decimals are the fraction of mant·10^6·2^-shift. The product
	// mant·10^6 has at most 73 bits.
	shift := uint(fracBits - exp)
	var whole, micros uint64
	if exp >= 0 {
		whole = mant >> shift
		mant &= 1<<shift - 1
	}
	if shift < 128 { // smaller numbers are 0.000000, subnormals included
		hi, lo := bits.Mul64(mant, 1e6)
		var restHi, restLo, halfHi, halfLo uint64 // bits that are shifted out
		if shift >= 64 {
			micros = hi >> (shift - 64)
			restHi, restLo = hi&(1<<(shift-64)-1), lo
		} else {
			micros = hi<<(64-shift) | lo>>shift
			restLo = lo & (1<<shift - 1)
		}
		if shift > 64 {
			halfHi = 1 << (shift - 65)
		} else {
			halfLo = 1 << (shift - 1)
		}
		above := restHi > halfHi || restHi == halfHi && restLo > halfLo
		even := restHi == halfHi && restLo == halfLo
		if above || even && micros&1 != 0 {
			micros++
		}
		if micros == 1e6 {
			micros = 0
			whole++
		}
	}
	dst = appendUint(dst, whole)
	dst = append(dst, '.')
	return appendDigits6(dst, uint32(micros))
}

// appendDigits6 appends v, which is below 10^6, as six digits.
func appendDigits6(dst []byte, v uint32) []byte {
	a, b, c := v/1e4*2, v/100%100*2, v%100*2
	return append(dst,
		digitPairs[a], digitPairs[a+1],
		digitPairs[b], digitPairs[b+1],
		digitPairs[c], digitPairs[c+1])
}

// appendDouble appends v as TSV logs show doubles: with at most six decimals, without trailing
// zeros, and with ".0" if v is within 1e-9 of a whole number.
func appendDouble(dst []byte, v float64) []byte {
	switch {
	case v == 0:
		return append(dst, "0.0"...) // also for negative zero
	case v != v:
		return append(dst, "nan"...) // for either sign
	case math.IsInf(v, 0):
		return appendFixed6(dst, v)
	}
	dst = appendFixed6(dst, v)
	n := len(dst)
	for dst[n-1] == '0' { // the point ends the loop
		n--
	}
	if dst[n-1] == '.' {
		n--
	}
	dst = dst[:n]
	if math.Abs(v-math.RoundToEven(v)) < 1e-9 {
		dst = append(dst, ".0"...)
	}
	return dst
}
