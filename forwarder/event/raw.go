package event

import (
	"encoding/binary"
	"iter"
	"math"
	"net/netip"
	"time"
)

// Raw is one value in broker-bin-v1 that [Parse] has checked or this package has made. Its methods
// read it in place and do not allocate. The zero value is a value of kind [None].
type Raw []byte

// sizes are the sizes of the payloads that have a fixed size, by kind.
var sizes = [numKinds]int{
	Bool: 1, Count: 8, Int: 8, Real: 8, Address: 16, Subnet: 17, PortNumber: 3, Timestamp: 8,
	Timespan: 8,
}

// Kind returns the type of the value.
func (r Raw) Kind() Kind {
	if len(r) == 0 {
		return None
	}
	return Kind(r[0])
}

// Bool returns the value of a bool, and whether it is one.
func (r Raw) Bool() (v, ok bool) {
	if r.Kind() != Bool {
		return false, false
	}
	return r[1] != 0, true
}

// Count returns the value of a count, and whether it is one.
func (r Raw) Count() (uint64, bool) {
	if r.Kind() != Count {
		return 0, false
	}
	return binary.BigEndian.Uint64(r[1:]), true
}

// Int returns the value of an int, and whether it is one.
func (r Raw) Int() (int64, bool) {
	if r.Kind() != Int {
		return 0, false
	}
	return r.signed(), true
}

func (r Raw) signed() int64 { return int64(binary.BigEndian.Uint64(r[1:])) }

// Real returns the value of a double, and whether it is one.
func (r Raw) Real() (float64, bool) {
	if r.Kind() != Real {
		return 0, false
	}
	return unpackReal(binary.BigEndian.Uint64(r[1:])), true
}

// Text returns the bytes of a string or an enum, which are part of r, and whether it is one.
func (r Raw) Text() ([]byte, bool) {
	if k := r.Kind(); k != String && k != EnumValue {
		return nil, false
	}
	_, n := length(r[1:])
	return r[1+n:], true
}

// Addr returns the value of an addr, and whether it is one. An IPv4 address is one of IPv4.
func (r Raw) Addr() (netip.Addr, bool) {
	if r.Kind() != Address {
		return netip.Addr{}, false
	}
	return address(r[1:]), true
}

func address(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)).Unmap() }

// Prefix returns the value of a subnet, without bits behind the prefix, and whether it is one.
func (r Raw) Prefix() (netip.Prefix, bool) {
	if r.Kind() != Subnet {
		return netip.Prefix{}, false
	}
	a, bits := address(r[1:]), int(r[17])
	if a.Is4() {
		bits -= 96
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// Port returns the value of a port, and whether it is one.
func (r Raw) Port() (Port, bool) {
	if r.Kind() != PortNumber {
		return Port{}, false
	}
	return Port{binary.BigEndian.Uint16(r[1:]), Proto(r[3])}, true
}

// Time returns the value of a time in UTC, and whether it is one.
func (r Raw) Time() (time.Time, bool) {
	if r.Kind() != Timestamp {
		return time.Time{}, false
	}
	return time.Unix(0, r.signed()).UTC(), true
}

// Duration returns the value of an interval, and whether it is one.
func (r Raw) Duration() (time.Duration, bool) {
	if r.Kind() != Timespan {
		return 0, false
	}
	return time.Duration(r.signed()), true
}

// Len returns the number of elements of a set or vector, or of entries of a table; 0 for others.
func (r Raw) Len() int {
	if r.Kind() < SetOf {
		return 0
	}
	n, _ := length(r[1:])
	return n
}

// content returns what follows the number of elements.
func (r Raw) content() []byte {
	_, n := length(r[1:])
	return r[1+n:]
}

// Elements returns the elements of a set or vector, which are part of r. Others have none.
func (r Raw) Elements() iter.Seq[Raw] {
	return func(yield func(Raw) bool) {
		if k := r.Kind(); k != SetOf && k != VectorOf {
			return
		}
		for rest := r.content(); len(rest) > 0; {
			n := size(rest)
			if !yield(Raw(rest[:n:n])) {
				return
			}
			rest = rest[n:]
		}
	}
}

// Entries returns keys and values of a table, which are part of r. Others have none.
func (r Raw) Entries() iter.Seq2[Raw, Raw] {
	return func(yield func(key, value Raw) bool) {
		if r.Kind() != TableOf {
			return
		}
		for rest := r.content(); len(rest) > 0; {
			k := size(rest)
			n := k + size(rest[k:])
			if !yield(Raw(rest[:k:k]), Raw(rest[k:n:n])) {
				return
			}
			rest = rest[n:]
		}
	}
}

// size returns the size of the first value of b, which has been checked.
func size(b []byte) int {
	// values counts those that are still to be passed: containers add their elements.
	at := 0
	for values := 1; values > 0; values-- {
		switch k := Kind(b[at]); k {
		case String, EnumValue:
			n, used := length(b[at+1:])
			at += 1 + used + n
		case SetOf, VectorOf:
			n, used := length(b[at+1:])
			at += 1 + used
			values += n
		case TableOf:
			n, used := length(b[at+1:])
			at += 1 + used
			values += 2 * n
		default:
			at += 1 + sizes[k]
		}
	}
	return at
}

// length reads a length: unsigned LEB128. It returns the number of bytes that it takes, 0 if it is
// not whole or above what 32 bits hold.
func length(b []byte) (n, used int) {
	v, used := binary.Uvarint(b)
	if used <= 0 || v > math.MaxUint32 {
		return 0, 0
	}
	return int(v), used
}

// Patterns of doubles that broker-bin-v1 has in place of those of IEEE 754 (caf::detail::pack754):
// infinities have the other sign, and there is one NaN.
const (
	packedInf    = 0xfff0000000000000
	packedNegInf = 0x7ff0000000000000
	packedNaN    = 0xffffffffffffffff

	signBit      = 1 << 63
	exponentBits = 0x7ff << 52
	fractionBits = 1<<52 - 1
)

// unpackReal reads a double as Zeek does.
func unpackReal(bits uint64) float64 {
	switch {
	case bits == packedNaN:
		return math.NaN()
	case bits == packedInf:
		return math.Inf(1)
	case bits == packedNegInf:
		return math.Inf(-1)
	case bits&exponentBits == exponentBits: // another NaN
		return math.Inf(1 - 2*int(bits>>63))
	case bits&exponentBits == 0 && bits&fractionBits != 0:
		// A subnormal number of IEEE 754 is taken for a normal one with the exponent -1023.
		v := math.Ldexp(1+float64(bits&fractionBits)/(1<<52), -1023)
		return math.Copysign(v, 1-2*float64(bits>>63))
	}
	return math.Float64frombits(bits)
}

// packReal writes a double so that Zeek reads the same. A subnormal number becomes zero, as there
// is no form of it that Zeek reads.
func packReal(v float64) uint64 {
	bits := math.Float64bits(v)
	switch {
	case math.IsNaN(v):
		return packedNaN
	case math.IsInf(v, 1):
		return packedInf
	case math.IsInf(v, -1):
		return packedNegInf
	case bits&exponentBits == 0:
		return bits & signBit
	}
	return bits
}
