package zeek

import (
	"encoding/binary"
	"fmt"
	"math"
)

// AppendBatch appends a batch of the records. Their values must have the types of the columns of s,
// and elements the columns' subtypes. ParseBatch and a Renderer for s accept what it appends. On
// error it returns dst unchanged; the error names record and field.
func AppendBatch(dst []byte, s *Schema, records [][]Value) ([]byte, error) {
	out, err := AppendSchema(dst, s)
	if err != nil {
		return dst, err
	}
	if uint64(len(records)) > math.MaxUint32 {
		return dst, fmt.Errorf("zeek: %d records are too many for a batch: send at most %d",
			len(records), uint32(math.MaxUint32))
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(records)))
	for i, record := range records {
		if len(record) != len(s.Fields) {
			return dst, fmt.Errorf("zeek: record %d has %d values, the schema has %d fields", i,
				len(record), len(s.Fields))
		}
		for j := range record {
			if out, err = appendColumn(out, &s.Fields[j], &record[j]); err != nil {
				return dst, fmt.Errorf("zeek: record %d, field %q: %w", i, s.Fields[j].Name, err)
			}
		}
	}
	return out, nil
}

// appendColumn appends v, whose type must be that of f.
func appendColumn(dst []byte, f *Field, v *Value) ([]byte, error) {
	if v.Type != f.Type {
		return dst, fmt.Errorf("a value of type %s instead of %s", v.Type, f.Type)
	}
	if v.Unset || !v.Type.isContainer() {
		return appendAtomic(dst, v)
	}
	dst = AppendContainerValue(dst, v.Type, len(v.Elems))
	for i := range v.Elems {
		e := &v.Elems[i]
		if e.Type != f.Subtype {
			return dst, fmt.Errorf("element %d is of type %s instead of %s", i, e.Type, f.Subtype)
		}
		var err error
		if dst, err = appendAtomic(dst, e); err != nil {
			return dst, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return dst, nil
}

// appendAtomic appends a value that is unset or not a container.
func appendAtomic(dst []byte, v *Value) ([]byte, error) {
	if v.Unset {
		return AppendUnsetValue(dst, v.Type), nil
	}
	switch v.Type {
	case TypeBool, TypeInt, TypeCount, TypeDouble, TypeTime, TypeInterval:
		return AppendNumberValue(dst, v.Type, v.Num), nil
	case TypePort:
		return appendPort(dst, v.Num, v.Proto)
	case TypeAddr:
		return AppendAddrValue(dst, v.Addr)
	case TypeSubnet:
		return appendSubnetNumber(dst, v.Num, v.Addr)
	default: // texts; a field has no other type
		return AppendTextValue(dst, v.Type, v.Text)
	}
}
