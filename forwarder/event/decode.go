package event

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"time"
)

// Decode stores the value in what dst points to, see the package documentation for the types. It
// copies everything. A value of another type is an error, as it is for Zeek, which tells count and
// int apart; then dst may have been changed in part. A vector may have more elements than a struct
// has fields.
func (r Raw) Decode(dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("event: Decode needs a pointer that is not nil, not a %T", dst)
	}
	return r.decode(v.Elem(), None)
}

// mismatch is the error for a value that does not fit.
func (r Raw) mismatch(t reflect.Type) error {
	return fmt.Errorf("event: a value of type %v does not fit into a %v", r.Kind(), t)
}

// decode stores the value in v. as is the kind that a tag asks for.
func (r Raw) decode(v reflect.Value, as Kind) error {
	t := v.Type()
	if isValue(t) && as == None {
		return r.decodeValue(v)
	}
	switch t.Kind() {
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return r.mismatch(t)
		}
		v.SetZero()
		if value := r.Value(); value != nil {
			v.Set(reflect.ValueOf(value))
		}
		return nil
	case reflect.Pointer:
		if r.Kind() == None {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(t.Elem()))
		return r.decode(v.Elem(), as)
	case reflect.Bool:
		if b, ok := r.Bool(); ok {
			v.SetBool(b)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n, ok := r.Count(); ok && !v.OverflowUint(n) {
			v.SetUint(n)
			return nil
		} else if ok {
			return fmt.Errorf("event: the count %d is too large for a %v", n, t)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n, ok := r.Int(); ok && !v.OverflowInt(n) {
			v.SetInt(n)
			return nil
		} else if ok {
			return fmt.Errorf("event: the int %d is too large for a %v", n, t)
		}
	case reflect.Float32, reflect.Float64:
		if f, ok := r.Real(); ok && (math.IsInf(f, 0) || !v.OverflowFloat(f)) {
			v.SetFloat(f)
			return nil
		} else if ok {
			return fmt.Errorf("event: the double %v is too large for a %v", f, t)
		}
	case reflect.String:
		want := String
		if as == EnumValue {
			want = EnumValue
		}
		if text, ok := r.Text(); ok && r.Kind() == want {
			v.SetString(string(text))
			return nil
		}
	case reflect.Slice, reflect.Array:
		return r.decodeSlice(v, as)
	case reflect.Map:
		return r.decodeMap(v)
	case reflect.Struct:
		return r.decodeStruct(v)
	}
	return r.mismatch(t)
}

// decodeValue stores the value in a v whose type has a kind of its own.
func (r Raw) decodeValue(v reflect.Value) error {
	var value any
	ok := false
	switch v.Interface().(type) {
	case Raw:
		value, ok = append(Raw(nil), r...), true
	case netip.Addr:
		value, ok = pair(r.Addr())
	case netip.Prefix:
		value, ok = pair(r.Prefix())
	case Port:
		value, ok = pair(r.Port())
	case time.Time:
		value, ok = pair(r.Time())
	case time.Duration:
		value, ok = pair(r.Duration())
	default: // Enum, Vector, Set, Table
		value = r.Value()
		ok = reflect.TypeOf(value) == v.Type()
	}
	if !ok {
		return r.mismatch(v.Type())
	}
	v.Set(reflect.ValueOf(value))
	return nil
}

func pair[T any](v T, ok bool) (any, bool) { return v, ok }

func (r Raw) decodeSlice(v reflect.Value, as Kind) error {
	t := v.Type()
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && as == None {
		text, ok := r.Text()
		if !ok || r.Kind() != String {
			return r.mismatch(t)
		}
		v.SetBytes(append([]byte{}, text...))
		return nil
	}
	want := VectorOf
	if as == SetOf {
		want = SetOf
	}
	if r.Kind() != want {
		return r.mismatch(t)
	}
	if n := r.Len(); t.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(t, n, n))
	} else if n != v.Len() {
		return fmt.Errorf("event: a vector of %d does not fit into a %v", n, t)
	}
	i := 0
	for e := range r.Elements() {
		if err := e.decode(v.Index(i), None); err != nil {
			return err
		}
		i++
	}
	return nil
}

func (r Raw) decodeMap(v reflect.Value) error {
	t := v.Type()
	want := TableOf
	if isSet(t) {
		want = SetOf
	}
	if r.Kind() != want {
		return r.mismatch(t)
	}
	v.Set(reflect.MakeMapWithSize(t, r.Len()))
	put := func(key, value Raw) error {
		k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := key.decode(k, None); err != nil {
			return err
		}
		if !k.Comparable() {
			return key.mismatch(t.Key())
		}
		if want == TableOf {
			if err := value.decode(e, None); err != nil {
				return err
			}
		}
		v.SetMapIndex(k, e)
		return nil
	}
	for e := range r.Elements() {
		if err := put(e, nil); err != nil {
			return err
		}
	}
	for key, value := range r.Entries() {
		if err := put(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (r Raw) decodeStruct(v reflect.Value) error {
	fields, err := fieldsOf(v.Type())
	if err != nil {
		return err
	}
	if r.Kind() != VectorOf {
		return r.mismatch(v.Type())
	}
	if n := r.Len(); n < len(fields) {
		return fmt.Errorf("event: a record of %d fields does not fit into a %v, which has %d", n,
			v.Type(), len(fields))
	}
	i := 0
	for e := range r.Elements() {
		if i == len(fields) {
			break
		}
		f := fields[i]
		i++
		if f.optional && e.Kind() == None {
			v.Field(f.index).SetZero()
			continue
		}
		if err := e.decode(v.Field(f.index), f.as); err != nil {
			return fmt.Errorf("%w, in field %s", err, f.name)
		}
	}
	return nil
}
