package zeek

import (
	"math"
	"math/bits"
	"strconv"
)

// appendUint appends v in decimal. Most numbers in logs have one digit.
func appendUint(dst []byte, v uint64) []byte {
	if v < 10 {
		return append(dst, '0'+byte(v))
	}
	return strconv.AppendUint(dst, v, 10)
}

// appendFixed6 appends v with exactly six decimals, rounded half to even on the exact
// value, as times and intervals are written: -0.000000, inf, -inf, nan and -nan included.
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
		return strconv.AppendFloat(dst, math.Abs(v), 'f', 6, 64) // has no fraction
	}

	// v = mant·2^-shift, so the decimals are the fraction of mant·10^6 shifted right.
	// That product has at most 73 bits.
	shift := uint(fracBits - exp)
	var whole, micros uint64
	if exp >= 0 {
		whole = mant >> shift
		mant &= 1<<shift - 1
	}
	if shift < 128 { // smaller numbers, subnormals too, are 0.000000
		hi, lo := bits.Mul64(mant, 1e6)
		var restHi, restLo, halfHi, halfLo uint64 // of the bits shifted out
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

// appendDigits6 appends v < 10^6 with leading zeros.
func appendDigits6(dst []byte, v uint32) []byte {
	a, b, c := v/1e4, v/100%100, v%100
	return append(dst,
		'0'+byte(a/10), '0'+byte(a%10),
		'0'+byte(b/10), '0'+byte(b%10),
		'0'+byte(c/10), '0'+byte(c%10))
}

// appendDouble appends v as TSV logs show doubles: at most six decimals, without
// trailing zeros, and with ".0" if v is within 1e-9 of a whole number.
func appendDouble(dst []byte, v float64) []byte {
	switch {
	case v == 0:
		return append(dst, "0.0"...) // negative zero too
	case v != v:
		return append(dst, "nan"...) // of either sign
	case math.IsInf(v, 0):
		return appendFixed6(dst, v)
	}
	dst = appendFixed6(dst, v)
	n := len(dst)
	for dst[n-1] == '0' { // ends at the point
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
