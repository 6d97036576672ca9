package event

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"
)

// field is a field of a struct that is part of the record.
type field struct {
	index    int
	name     string // for errors
	optional bool
	as       Kind // EnumValue for a string, SetOf for a slice, else None
}

var structs sync.Map // reflect.Type to []field or error

// fieldsOf returns the fields of a struct type.
func fieldsOf(t reflect.Type) ([]field, error) {
	known, ok := structs.Load(t)
	if !ok {
		fields, err := parseFields(t)
		if known = fields; err != nil {
			known = err
		}
		structs.Store(t, known)
	}
	if err, bad := known.(error); bad {
		return nil, err
	}
	return known.([]field), nil
}

func parseFields(t reflect.Type) ([]field, error) {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("zeek")
		if tag == "-" || !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" {
			name = f.Name
		}
		one := field{index: i, name: t.Name() + "." + name}
		for option := range strings.SplitSeq(options, ",") {
			switch {
			case option == "":
			case option == "optional":
				one.optional = true
			case option == "enum" && f.Type.Kind() == reflect.String:
				one.as = EnumValue
			case option == "set" && f.Type.Kind() == reflect.Slice:
				one.as = SetOf
			default:
				return nil, fmt.Errorf("event: field %s of type %v: %q cannot be in its tag",
					one.name,
					f.Type, option)
			}
		}
		fields = append(fields, one)
	}
	return fields, nil
}

// isValue reports whether values of t are values of Zeek by themselves, although Go has them as
// structs, slices or numbers.
func isValue(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[Port](),
		reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[Enum](),
		reflect.TypeFor[Raw](), reflect.TypeFor[Vector](), reflect.TypeFor[Set](),
		reflect.TypeFor[Table]():
		return true
	}
	return false
}

// isSet reports whether t is a map[K]struct{}.
func isSet(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Elem() == reflect.TypeFor[struct{}]()
}

// appendAs appends v. as is the kind that a tag asks for.
func appendAs(dst []byte, v reflect.Value, as Kind, depth int) (_ []byte, err error) {
	t := v.Type()
	if as == None && isValue(t) {
		return appendValue(dst, v.Interface(), depth)
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(dst, byte(None)), nil
		}
		return appendAs(dst, v.Elem(), as, depth)
	case reflect.Bool:
		return appendBool(dst, v.Bool()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return appendUint64(dst, Count, v.Uint()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return appendUint64(dst, Int, uint64(v.Int())), nil
	case reflect.Float32, reflect.Float64:
		return appendUint64(dst, Real, packReal(v.Float())), nil
	case reflect.String:
		k := String
		if as == EnumValue {
			k = EnumValue
		}
		return appendText(dst, k, v.String()), nil
	case reflect.Slice, reflect.Array:
		return appendSlice(dst, v, as, depth)
	case reflect.Map:
		return appendMap(dst, v, depth)
	case reflect.Struct:
		return appendStruct(dst, v, depth)
	}
	return nil, fmt.Errorf("event: Zeek has no type for %v", t)
}

func appendSlice(dst []byte, v reflect.Value, as Kind, depth int) (_ []byte, err error) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 && as == None {
		return appendText(dst, String, v.Bytes()), nil
	}
	k := VectorOf
	if as == SetOf {
		k = SetOf
	}
	if dst, err = appendHead(dst, k, v.Len(), depth); err != nil {
		return nil, err
	}
	begin := len(dst)
	for i := range v.Len() {
		if dst, err = appendAs(dst, v.Index(i), None, depth+1); err != nil {
			return nil, err
		}
	}
	if k == SetOf {
		return order(dst, begin, k, v.Len())
	}
	return dst, nil
}

func appendMap(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
	k := TableOf
	if isSet(v.Type()) {
		k = SetOf
	}
	if dst, err = appendHead(dst, k, v.Len(), depth); err != nil {
		return nil, err
	}
	begin := len(dst)
	for entries := v.MapRange(); entries.Next(); {
		if dst, err = appendAs(dst, entries.Key(), None, depth+1); err != nil {
			return nil, err
		}
		if k == TableOf {
			if dst, err = appendAs(dst, entries.Value(), None, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return order(dst, begin, k, v.Len())
}

func appendStruct(dst []byte, v reflect.Value, depth int) ([]byte, error) {
	fields, err := fieldsOf(v.Type())
	if err != nil {
		return nil, err
	}
	if dst, err = appendHead(dst, VectorOf, len(fields), depth); err != nil {
		return nil, err
	}
	for _, f := range fields {
		value := v.Field(f.index)
		if f.optional && value.IsZero() {
			dst = append(dst, byte(None))
			continue
		}
		if dst, err = appendAs(dst, value, f.as, depth+1); err != nil {
			return nil, fmt.Errorf("%w, in field %s", err, f.name)
		}
	}
	return dst, nil
}
