package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// errDuplicate says that a set or table made of Go values has an element or key twice.
var errDuplicate = errors.New("event: an element of a set or a key of a table is there twice")

// Append appends v as broker-bin-v1, see the package documentation for the types. Sets and tables
// are put in order. A [Raw] is appended as it is. It returns dst unchanged, and an error, for a
// value that Zeek has no type for or that Zeek's type cannot hold.
func Append(dst []byte, v any) ([]byte, error) {
	out, err := appendValue(dst, v, 0)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, byte(None)), nil
	case Raw:
		if len(v) == 0 {
			return append(dst, byte(None)), nil
		}
		if depth > 0 { // what is nested in it counts from here
			if _, err := check(v, 0, depth); err != nil {
				return nil, err
			}
		}
		return append(dst, v...), nil
	case bool:
		return appendBool(dst, v), nil
	case uint64:
		return appendUint64(dst, Count, v), nil
	case int64:
		return appendUint64(dst, Int, uint64(v)), nil
	case float64:
		return appendUint64(dst, Real, packReal(v)), nil
	case string:
		return appendText(dst, String, v), nil
	case []byte:
		return appendText(dst, String, v), nil
	case Enum:
		return appendText(dst, EnumValue, v), nil
	case netip.Addr:
		return appendAddr(dst, v)
	case netip.Prefix:
		return appendPrefix(dst, v)
	case Port:
		return appendPort(dst, v)
	case time.Time:
		return appendTime(dst, v)
	case time.Duration:
		return appendUint64(dst, Timespan, uint64(v)), nil
	case Vector:
		return appendList(dst, VectorOf, v, depth)
	case Set:
		return appendList(dst, SetOf, v, depth)
	case Table:
		return appendTable(dst, v, depth)
	}
	return appendAs(dst, reflect.ValueOf(v), None, depth)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, byte(Bool), 1)
	}
	return append(dst, byte(Bool), 0)
}

func appendUint64(dst []byte, k Kind, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, byte(k)), v)
}

func appendText[T ~string | ~[]byte](dst []byte, k Kind, v T) []byte {
	return append(binary.AppendUvarint(append(dst, byte(k)), uint64(len(v))), v...)
}

func appendAddr(dst []byte, a netip.Addr) ([]byte, error) {
	if !a.IsValid() || a.Zone() != "" {
		return nil, fmt.Errorf("event: %v is no addr of Zeek: it has no value, or a zone", a)
	}
	b := a.As16()
	return append(append(dst, byte(Address)), b[:]...), nil
}

func appendPrefix(dst []byte, p netip.Prefix) ([]byte, error) {
	if !p.IsValid() {
		return nil, errors.New("event: the subnet has no value")
	}
	b, bits := p.Masked().Addr().As16(), p.Bits()
	if p.Addr().Is4() {
		bits += 96
	} else if p.Addr().Is4In6() && bits < 96 {
		return nil, fmt.Errorf("event: %v is no subnet of Zeek, which takes its address for IPv4",
			p)
	}
	return append(append(append(dst, byte(Subnet)), b[:]...), byte(bits)), nil
}

func appendPort(dst []byte, p Port) ([]byte, error) {
	if p.Proto > ProtoICMP {
		return nil, fmt.Errorf("event: there is no protocol %d of a port", uint8(p.Proto))
	}
	dst = binary.BigEndian.AppendUint16(append(dst, byte(PortNumber)), p.Number)
	return append(dst, byte(p.Proto)), nil
}

// The first and the last time that 64 bits hold in nanoseconds.
var (
	minTime = time.Unix(0, -1<<63)
	maxTime = time.Unix(0, 1<<63-1)
)

func appendTime(dst []byte, t time.Time) ([]byte, error) {
	if t.Before(minTime) || t.After(maxTime) {
		return nil, fmt.Errorf("event: %v is no time of Zeek, which begins in %d and ends in %d", t,
			minTime.UTC().Year(), maxTime.UTC().Year())
	}
	return appendUint64(dst, Timestamp, uint64(t.UnixNano())), nil
}

// appendHead appends the head of a container. Elements follow.
func appendHead(dst []byte, k Kind, n, depth int) ([]byte, error) {
	if depth >= MaxDepth {
		return nil, fmt.Errorf("event: more than %d containers in one another", MaxDepth)
	}
	return binary.AppendUvarint(append(dst, byte(k)), uint64(n)), nil
}

func appendList(dst []byte, k Kind, list []any, depth int) ([]byte, error) {
	dst, err := appendHead(dst, k, len(list), depth)
	if err != nil {
		return nil, err
	}
	begin := len(dst)
	for _, v := range list {
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return nil, err
		}
	}
	if k == SetOf {
		return order(dst, begin, k, len(list))
	}
	return dst, nil
}

func appendTable(dst []byte, table Table, depth int) ([]byte, error) {
	dst, err := appendHead(dst, TableOf, len(table), depth)
	if err != nil {
		return nil, err
	}
	begin := len(dst)
	for _, e := range table {
		if dst, err = appendValue(dst, e.Key, depth+1); err != nil {
			return nil, err
		}
		if dst, err = appendValue(dst, e.Value, depth+1); err != nil {
			return nil, err
		}
	}
	return order(dst, begin, TableOf, len(table))
}

// order sorts the n elements of a set, or entries of a table, that begin at dst[begin:] and go on
// to its end.
func order(dst []byte, begin int, k Kind, n int) ([]byte, error) {
	parts := partsOf(dst, begin, k, n)
	byKey := func(x, y part) int { return compare(dst[x.from:], dst[y.from:]) }
	sorted := slices.IsSortedFunc(parts, byKey)
	if !sorted {
		sortParts(dst, parts)
	}
	if duplicate(dst, parts) >= 0 {
		return nil, errDuplicate
	}
	if sorted {
		return dst, nil
	}
	old := slices.Clone(dst[begin:])
	dst = dst[:begin]
	for _, p := range parts {
		dst = append(dst, old[int(p.from)-begin:int(p.to)-begin]...)
	}
	return dst, nil
}
