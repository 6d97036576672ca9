package zeek

import (
	"encoding/binary"
	"fmt"
	"math"
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

// Addr returns an address. IPv4 addresses mapped into IPv6 are sent as IPv6.
func Addr(a netip.Addr) Value { return Value{Type: TypeAddr, Addr: a} }

// Subnet returns a subnet. The bits behind the prefix are kept as they are.
func Subnet(p netip.Prefix) Value {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += v4PrefixOffset
	}
	return Value{Type: TypeSubnet, Addr: p.Addr(), Num: uint64(bits)}
}

// Set returns a set of these elements. It keeps the slice.
func Set(elems ...Value) Value { return Value{Type: TypeSet, Elems: elems} }

// Vector returns a vector of these elements, unset ones being holes. It keeps the slice.
func Vector(elems ...Value) Value { return Value{Type: TypeVector, Elems: elems} }

// AppendBatch appends the batch of these records, which must have the columns of s in
// number and type, and elements of the columns' subtypes. Everything it appends is
// accepted by ParseBatch and by a Renderer for s. On error dst comes back as it was; the
// error says which record and field is wrong.
func AppendBatch(dst []byte, s *Schema, records [][]Value) ([]byte, error) {
	out, err := appendSchema(dst, s)
	if err != nil {
		return dst, err
	}
	if uint64(len(records)) > math.MaxUint32 {
		return dst, fmt.Errorf("zeek: %d records are too many for a batch: send at most %d", len(records), uint32(math.MaxUint32))
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(records)))
	for i, record := range records {
		if len(record) != len(s.Fields) {
			return dst, fmt.Errorf("zeek: record %d has %d values, the schema has %d fields", i, len(record), len(s.Fields))
		}
		for j := range record {
			if out, err = appendColumn(out, &s.Fields[j], &record[j]); err != nil {
				return dst, fmt.Errorf("zeek: record %d, field %q: %w", i, s.Fields[j].Name, err)
			}
		}
	}
	return out, nil
}

func appendSchema(dst []byte, s *Schema) ([]byte, error) {
	if s.Stream == "" || s.Writer == "" {
		return dst, fmt.Errorf("zeek: a batch needs the names of its stream and writer, got %q and %q", s.Stream, s.Writer)
	}
	if len(s.Fields) == 0 || uint64(len(s.Fields)) > math.MaxUint32 {
		return dst, fmt.Errorf("zeek: a batch cannot have %d fields", len(s.Fields))
	}
	var err error
	for _, name := range [...]string{s.Stream, s.Writer, s.Filter, s.Path} {
		if dst, err = appendText(dst, name); err != nil {
			return dst, err
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.Fields)))
	for i, f := range s.Fields {
		if !validFieldName(f.Name) {
			return dst, fmt.Errorf("zeek: the name of field %d, %q, is empty or has control characters", i, f.Name)
		}
		if !f.loggable() {
			return dst, fmt.Errorf("zeek: field %q: %s cannot be logged", f.Name, f.TypeName())
		}
		dst = append(dst, 0) // no secondary name
		if dst, err = appendText(dst, f.Name); err != nil {
			return dst, err
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.Type))
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.Subtype))
		dst = appendBool(dst, f.Optional)
	}
	return dst, nil
}

// appendColumn appends v, which must fit f.
func appendColumn(dst []byte, f *Field, v *Value) ([]byte, error) {
	if v.Type != f.Type {
		return dst, fmt.Errorf("a value of type %s instead of %s", v.Type, f.Type)
	}
	dst = appendValueHead(dst, v)
	if v.Unset {
		return dst, nil
	}
	if !v.Type.isContainer() {
		return appendAtomic(dst, v)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(v.Elems)))
	for i := range v.Elems {
		e := &v.Elems[i]
		if e.Type != f.Subtype {
			return dst, fmt.Errorf("element %d is of type %s instead of %s", i, e.Type, f.Subtype)
		}
		dst = appendValueHead(dst, e)
		if e.Unset {
			continue
		}
		var err error
		if dst, err = appendAtomic(dst, e); err != nil {
			return dst, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return dst, nil
}

func appendValueHead(dst []byte, v *Value) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(v.Type))
	dst = binary.BigEndian.AppendUint32(dst, 0) // subtype: Zeek sends 0, even for containers
	return appendBool(dst, !v.Unset)
}

// appendAtomic appends the payload of a value that is neither unset nor a container.
func appendAtomic(dst []byte, v *Value) ([]byte, error) {
	switch v.Type {
	case TypeBool, TypeInt, TypeCount, TypeDouble, TypeTime, TypeInterval:
		return binary.BigEndian.AppendUint64(dst, v.Num), nil
	case TypePort:
		if !v.Proto.valid() {
			return dst, fmt.Errorf("a port cannot have protocol %d", v.Proto)
		}
		dst = binary.BigEndian.AppendUint64(dst, v.Num)
		return binary.BigEndian.AppendUint32(dst, uint32(v.Proto)), nil
	case TypeAddr:
		return appendAddress(dst, v.Addr)
	case TypeSubnet:
		if v.Num > math.MaxUint8 {
			return dst, fmt.Errorf("a subnet cannot have a prefix of %d bits", v.Num)
		}
		return appendAddress(append(dst, byte(v.Num)), v.Addr)
	default: // the textual ones; a field has no other type
		return appendText(dst, v.Text)
	}
}

func appendAddress(dst []byte, a netip.Addr) ([]byte, error) {
	switch {
	case a.Is4():
		b := a.As4()
		return append(append(dst, familyV4), b[:]...), nil
	case a.Is6() && a.Zone() == "":
		b := a.As16()
		return append(append(dst, familyV6), b[:]...), nil
	}
	return dst, fmt.Errorf("%v cannot be sent: give an IPv4 or IPv6 address without zone", a)
}

func appendText(dst []byte, s string) ([]byte, error) {
	if len(s) > math.MaxInt32 {
		return dst, fmt.Errorf("zeek: a string of %d bytes is too long, the limit is %d", len(s), math.MaxInt32)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...), nil
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// DecodeRecords returns the records of b, which must have the columns of s, as values
// that do not refer to b's bytes. It is for tools and tests; a Renderer is the fast
// way. The error is an *Error.
func DecodeRecords(b Batch, s *Schema) ([][]Value, error) {
	rd := reader{b.Values}
	records := make([][]Value, 0, b.NumRecords) // ParseBatch has bounded it by the bytes
	for i := range b.NumRecords {
		record := make([]Value, len(s.Fields))
		for j := range s.Fields {
			if f := decodeColumn(&record[j], &rd, j, s.Fields[j].Type); f.reason != 0 {
				return nil, f.error(b, i, s.Fields)
			}
		}
		records = append(records, record)
	}
	return records, nil
}

func decodeColumn(v *Value, rd *reader, column int, want Type) fault {
	var raw rawValue
	at := rd.b
	if reason := rd.column(&raw, want); reason != 0 {
		return fault{reason, column, at, raw.typ}
	}
	*v = raw.value()
	if v.Unset || !v.Type.isContainer() {
		return fault{}
	}
	v.Elems = make([]Value, 0, raw.num)
	for range raw.num {
		at := rd.b
		var elem rawValue
		if reason := rd.element(&elem); reason != 0 {
			return fault{reason, column, at, elem.typ}
		}
		v.Elems = append(v.Elems, elem.value())
	}
	return fault{}
}

// value returns the atomic value v, or the container v without its elements.
func (v *rawValue) value() Value {
	if !v.present {
		return Unset(v.typ)
	}
	out := Value{Type: v.typ}
	switch v.typ {
	case TypeString, TypeEnum, TypeFile, TypeFunc:
		out.Text = string(v.data)
	case TypeSet, TypeVector:
	case TypeAddr, TypeSubnet:
		out.Addr, _ = netip.AddrFromSlice(v.data) // 4 or 16 bytes
		if v.typ == TypeSubnet {
			out.Num = v.num
		}
	case TypePort:
		out.Num, out.Proto = v.num, v.proto
	default:
		out.Num = v.num
	}
	return out
}
