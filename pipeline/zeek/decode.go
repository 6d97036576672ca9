package zeek

import "net/netip"

// DecodeRecords returns the records of b, which must have the columns of s. The values do not refer
// to b's bytes and take about ten times as much memory. It is meant for tools and tests; a Renderer
// is faster. The error is an *Error.
func DecodeRecords(b Batch, s *Schema) ([][]Value, error) {
	rd := reader{b.Values}
	records := make([][]Value, 0, b.NumRecords) // ParseBatch has bounded it
	for i := range b.NumRecords {
		record := make([]Value, len(s.Fields))
		for j := range s.Fields {
			if f := decodeColumn(&record[j], &rd, j, s.Fields[j].Type); f != nil {
				return nil, f.error(b, i, s.Fields)
			}
		}
		records = append(records, record)
	}
	return records, nil
}

func decodeColumn(v *Value, rd *reader, column int, want Type) *fault {
	var raw rawValue
	at := rd.b
	if reason := rd.column(&raw, want); reason != 0 {
		return &fault{reason: reason, column: column, at: at, typ: raw.typ}
	}
	*v = raw.value()
	if v.Unset || !v.Type.isContainer() {
		return nil
	}
	v.Elems = make([]Value, 0, raw.num)
	for range raw.num {
		at := rd.b
		var elem rawValue
		if reason := rd.element(&elem); reason != 0 {
			return &fault{reason: reason, column: column, at: at, typ: elem.typ}
		}
		v.Elems = append(v.Elems, elem.value())
	}
	return nil
}

// value returns v as a Value. A container comes without its elements.
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
		out.Addr, _ = netip.AddrFromSlice(v.data) // data has 4 or 16 bytes
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
