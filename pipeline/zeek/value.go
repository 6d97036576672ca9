package zeek

import (
	"errors"
	"net/netip"
)

// Value is one value of a record, taken apart: the comfortable form for making
// batches and for looking at them. Which members count depends on Type; the
// constructors set them. The zero Value is not valid.
type Value struct {
	Type  Type
	Unset bool // an unset optional field or a hole in a vector; nothing else counts
	// Num is a bool (0 or 1), an int in two's complement, a count, the IEEE 754 bits of a
	// double, time or interval (seconds), a port number, or the prefix length of a
	// subnet as it is sent: that of IPv4 plus 96.
	Num   uint64
	Proto Proto      // of a port
	Text  string     // of a string, enum, file or func; any bytes
	Addr  netip.Addr // of an addr or subnet, without zone
	Elems []Value    // of a set or vector; atomic values
}

// Unset returns an unset value of type t.
func Unset(t Type) Value { return Value{Type: t, Unset: true} }

// AppendBatch appends the batch of these records, which must have the columns of s in
// number and type. On error dst comes back as it was. The error says which record and
// field is wrong.
func AppendBatch(dst []byte, s *Schema, records [][]Value) ([]byte, error) {
	return dst, errors.New("zeek: not implemented")
}

// DecodeRecords returns the records of b, which must have the columns of s, as values
// that do not refer to b's bytes. It is for tools and tests; a Renderer is the fast way. The
// error is an *Error.
func DecodeRecords(b Batch, s *Schema) ([][]Value, error) {
	return nil, errors.New("zeek: not implemented")
}
