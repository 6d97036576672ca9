package zeek

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
)

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
	if err := s.Validate(); err != nil {
		return dst, err
	}
	for _, name := range [...]string{s.Stream, s.Writer, s.Filter, s.Path} {
		dst = appendText(dst, name)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.Fields)))
	for _, f := range s.Fields {
		dst = append(dst, 0) // no secondary name
		dst = appendText(dst, f.Name)
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
		out, err := appendAddress(append(dst, byte(v.Num)), v.Addr)
		if err == nil && v.Num > math.MaxUint8 {
			err = fmt.Errorf("a subnet cannot have a prefix of %d bits", v.Num)
		}
		return out, err
	default: // the textual ones; a field has no other type
		if len(v.Text) > math.MaxInt32 {
			return dst, fmt.Errorf("a text of %d bytes cannot be sent, the limit is %d", len(v.Text), math.MaxInt32)
		}
		return appendText(dst, v.Text), nil
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

func appendText(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}
