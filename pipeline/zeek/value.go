package zeek

import (
	"math"
	"net/netip"
)

// Value is one value of a record, for callers who make batches or look at single values. Type
// decides which fields have a meaning; the constructors set them. The zero Value is not valid.
type Value struct {
	Type  Type
	Unset bool // an unset field, or a hole in a vector; only Type has a meaning then
	// Num is a bool (0 or 1), an int in two's complement, a count, the IEEE 754 bits of a double,
	// time or interval (seconds), a port number, or the prefix length of a subnet, for IPv4 plus
	// 96.
	Num   uint64
	Proto Proto      // of a port
	Text  string     // of a string, enum, file or func; any bytes
	Addr  netip.Addr // of an addr or subnet, without zone
	Elems []Value    // of a set or vector; atomic values
}

// Unset returns an unset value of type t.
func Unset(t Type) Value { return Value{Type: t, Unset: true} }

// Bool returns a bool.
func Bool(v bool) Value {
	b := Value{Type: TypeBool}
	if v {
		b.Num = 1
	}
	return b
}

// Int returns an int.
func Int(v int64) Value { return Value{Type: TypeInt, Num: uint64(v)} }

// Count returns a count.
func Count(v uint64) Value { return Value{Type: TypeCount, Num: v} }

// Double returns a double.
func Double(v float64) Value { return Value{Type: TypeDouble, Num: math.Float64bits(v)} }

// Time returns a time, in seconds since 1970-01-01 UTC.
func Time(seconds float64) Value { return Value{Type: TypeTime, Num: math.Float64bits(seconds)} }

// Interval returns an interval, in seconds.
func Interval(seconds float64) Value {
	return Value{Type: TypeInterval, Num: math.Float64bits(seconds)}
}

// String returns a string of any bytes.
func String(s string) Value { return Value{Type: TypeString, Text: s} }

// Enum returns an enum value by its full name, "Notice::ACTION_LOG".
func Enum(name string) Value { return Value{Type: TypeEnum, Text: name} }

// File returns a file by its name.
func File(name string) Value { return Value{Type: TypeFile, Text: name} }

// Func returns a function by its textual description.
func Func(text string) Value { return Value{Type: TypeFunc, Text: text} }

// Port returns a port.
func Port(number uint16, p Proto) Value {
	return Value{Type: TypePort, Num: uint64(number), Proto: p}
}

// Addr returns an address. An IPv4 address mapped into IPv6 is sent as IPv6.
func Addr(a netip.Addr) Value { return Value{Type: TypeAddr, Addr: a} }

// Subnet returns a subnet. It keeps the bits behind the prefix.
func Subnet(p netip.Prefix) Value {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += v4PrefixOffset
	}
	return Value{Type: TypeSubnet, Addr: p.Addr(), Num: uint64(bits)}
}

// Set returns a set of the elements. It keeps the slice.
func Set(elems ...Value) Value { return Value{Type: TypeSet, Elems: elems} }

// Vector returns a vector of the elements; unset ones are holes. It keeps the slice.
func Vector(elems ...Value) Value { return Value{Type: TypeVector, Elems: elems} }
