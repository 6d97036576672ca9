package zeek

import (
	"math"
	"math/bits"
	"strconv"
)

// Doubles in JSON logs. Zeek writes them with Grisu2 (F. Loitsch, Printing Floating-Point Numbers
// Quickly and Accurately with Integers, 2010). Its digits always read back as the same number, but
// are not always the shortest or closest ones. Those of strconv are, so about one timestamp in 750
// would differ.

// appendJSONDouble appends v as a JSON number with a fraction or an exponent, or null if v is not
// finite.
func appendJSONDouble(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	if math.Signbit(v) {
		dst = append(dst, '-')
		v = -v
	}
	if v == 0 {
		return append(dst, "0.0"...)
	}
	if n, ok := wholeMicros(v); ok {
		return appendMicros(dst, n)
	}
	var digits [20]byte
	n, exp := grisu2(&digits, v)
	return appendDecimal(dst, digits[:n], exp)
}

// wholeMicros returns v in millionths if the digits that Grisu2 would give are those of a whole
// number n of millionths. This is so for most timestamps.
//
// Grisu2 looks for the decimal with the fewest digits in an interval around v. All numbers in it
// read back as v, and it is shorter than the interval of all such numbers by less than a hundredth.
// For v below 2^32 it is shorter than a millionth, so it contains at most one such n. If it
// contains one, every decimal in it with fewer digits is equal to n.
func wholeMicros(v float64) (n uint64, ok bool) {
	if v < 1e-6 || v >= 1<<32 {
		return 0, false
	}
	b := math.Float64bits(v)
	n = uint64(v*1e6 + 0.5)
	off := math.FMA(v, 1e6, -float64(n))
	half := math.Float64frombits((b>>52 - 53) << 52) // half of the interval
	// the interval of a power of two is shorter on one side
	return n, math.Abs(off) < half*(0.99*1e6) && b<<12 != 0
}

// appendMicros appends n millionths. It omits zeros at the end, except one directly behind the
// point.
func appendMicros(dst []byte, n uint64) []byte {
	whole := n / 1e6
	dst = append(appendUint(dst, whole), '.')
	dst = appendDigits6(dst, uint32(n-whole*1e6))
	end := len(dst)
	for least := end - 5; end > least && dst[end-1] == '0'; {
		end--
	}
	return dst[:end]
}

// appendDecimal appends digits·10^exp. The notation is plain if the decimal point lies at most 21
// digits behind the first digit or at most 5 zeros before it; else it has an exponent.
func appendDecimal(dst, digits []byte, exp int) []byte {
	n := len(digits)
	point := n + exp // v = 0.digits · 10^point
	switch {
	case exp >= 0 && point <= 21:
		dst = append(dst, digits...)
		for range exp {
			dst = append(dst, '0')
		}
		return append(dst, ".0"...)
	case 0 < point && point <= 21:
		dst = append(dst, digits[:point]...)
		dst = append(dst, '.')
		return append(dst, digits[point:]...)
	case -6 < point && point <= 0:
		dst = append(dst, "0.00000"[:2-point]...)
		return append(dst, digits...)
	}
	dst = append(dst, digits[0])
	if n > 1 {
		dst = append(dst, '.')
		dst = append(dst, digits[1:]...)
	}
	dst = append(dst, 'e')
	return strconv.AppendInt(dst, int64(point-1), 10)
}

// diyFP is the number f·2^e.
type diyFP struct {
	f uint64
	e int
}

func (x diyFP) normalize() diyFP {
	s := bits.LeadingZeros64(x.f)
	return diyFP{x.f << s, x.e - s}
}

// mul returns x·y with 64 bits of precision, rounded by the highest bit that is cut off.
func (x diyFP) mul(y diyFP) diyFP {
	hi, lo := bits.Mul64(x.f, y.f)
	return diyFP{hi + lo>>63, x.e + y.e + 64}
}

// cachedPower returns a cached power of ten c and its decimal exponent k. The binary exponent of a
// number with the binary exponent e, multiplied by c, lies within [-60, -32].
func cachedPower(e int) (c diyFP, k int) {
	i := (int(math.Ceil(float64(-61-e)*0.30102999566398114+347)) >> 3) + 1
	k = -348 + 8*i
	// 217706/2^16 is log2(10), exact enough for these k
	return diyFP{cachedPowers[i], k*217706>>16 - 63}, k
}

// grisu2 writes the digits of v, which is finite and above zero. It returns their number and the
// decimal exponent of the last digit.
func grisu2(digits *[20]byte, v float64) (n, exp int) {
	const (
		hiddenBit = 1 << 52
		bias      = 1023 + 52
	)
	b := math.Float64bits(v)
	w := diyFP{b & (hiddenBit - 1), int(b>>52) - bias}
	if w.e == -bias {
		w.e++ // subnormal
	} else {
		w.f |= hiddenBit
	}

	// The numbers between minus and plus read back as v.
	plus := diyFP{w.f<<1 + 1, w.e - 1}.normalize()
	minus := diyFP{w.f<<1 - 1, w.e - 1}
	if w.f == hiddenBit {
		minus = diyFP{w.f<<2 - 1, w.e - 2}
	}
	minus.f <<= minus.e - plus.e

	c, k := cachedPower(plus.e)
	scaled := w.normalize().mul(c)
	plus = plus.mul(c)
	minusF := diyFP{minus.f, plus.e}.mul(c).f + 1 // from here on only the significand counts
	plus.f--
	n, kappa := grisuDigits(digits, scaled.f, plus, plus.f-minusF)
	return n, kappa - k
}

var pow10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
	1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// grisuDigits generates the digits of plus until the rest is within delta, then moves the last
// digit towards w. kappa is the decimal exponent of the last digit.
func grisuDigits(digits *[20]byte, w uint64, plus diyFP, delta uint64) (n, kappa int) {
	shift := uint(-plus.e)
	one := uint64(1) << shift
	dist := plus.f - w
	whole := uint32(plus.f >> shift)
	rest := plus.f & (one - 1)

	for kappa = decimalLen(whole); kappa > 0; {
		unit := uint32(pow10[kappa-1])
		d := whole / unit
		whole -= d * unit
		if d != 0 || n != 0 {
			digits[n] = '0' + byte(d)
			n++
		}
		kappa--
		if left := uint64(whole)<<shift + rest; left <= delta {
			grisuRound(&digits[n-1], delta, left, uint64(unit)<<shift, dist)
			return n, kappa
		}
	}
	for {
		rest *= 10
		delta *= 10
		if d := byte(rest >> shift); d != 0 || n != 0 {
			digits[n] = '0' + d
			n++
		}
		rest &= one - 1
		kappa--
		if rest < delta {
			var scale uint64 // 0 beyond the table, as in Loitsch's code
			if -kappa < len(pow10) {
				scale = pow10[-kappa]
			}
			grisuRound(&digits[n-1], delta, rest, one, dist*scale)
			return n, kappa
		}
	}
}

// grisuRound decrements the last digit, of weight unit, as long as that brings rest closer to dist
// and keeps it within delta.
func grisuRound(last *byte, delta, rest, unit, dist uint64) {
	for rest < dist && delta-rest >= unit && (rest+unit < dist || dist-rest > rest+unit-dist) {
		*last--
		rest += unit
	}
}

// decimalLen returns the number of decimal digits of v; that of 0 is 1.
func decimalLen(v uint32) int {
	n := 1
	for n < 10 && uint64(v) >= pow10[n] {
		n++
	}
	return n
}
