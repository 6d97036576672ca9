package logwriter

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
)

// maxMessage bounds a log message, in bytes. It is also Zeek's limit for a record
// (Log::max_log_record_size). Tests replace it.
var maxMessage = zmtp.DefaultMaxMessageSize

// errTooLarge stops the encoding of a record before it takes much more memory than maxMessage.
var errTooLarge = errors.New("the record is too large for a log message")

// appendFunc appends the values of one or several columns from the memory to which it is bound.
type appendFunc func(dst []byte) ([]byte, error)

// column is a column, or a group of columns that put their own names into errors.
type column struct {
	name   string
	append appendFunc
}

// columns append a record, column by column.
type columns []column

func (cs columns) append(dst []byte) ([]byte, error) {
	var err error
	for i := range cs {
		if dst, err = cs[i].append(dst); err != nil {
			if cs[i].name != "" {
				err = fmt.Errorf("column %q: %w", cs[i].name, err)
			}
			return dst, err
		}
	}
	return dst, nil
}

// atomicType is a Go type whose values are single values of Zeek. Each method returns a function
// that appends the value in v.
type atomicType interface {
	zeekType() zeek.Type
	value(v reflect.Value) appendFunc    // v has the type
	optional(v reflect.Value) appendFunc // the same; the zero value is unset
	pointer(v reflect.Value) appendFunc  // v is a pointer to the type
	// v is a slice of the type or of pointers to it, or a map with such keys
	elements(v reflect.Value, container zeek.Type) appendFunc
}

// atom is an atomicType for types whose underlying type is that of E. Values of E itself are
// written without reflection.
type atom[E any] struct {
	typ    zeek.Type
	append func(dst []byte, p *E) ([]byte, error)
	isZero func(p *E) bool
}

func (a atom[E]) zeekType() zeek.Type { return a.typ }

// memory returns a pointer to the value of v.
func memory[E any](v reflect.Value) *E {
	return v.Addr().Convert(reflect.TypeFor[*E]()).Interface().(*E)
}

func (a atom[E]) value(v reflect.Value) appendFunc {
	p, add := memory[E](v), a.append
	return func(dst []byte) ([]byte, error) { return add(dst, p) }
}

func (a atom[E]) optional(v reflect.Value) appendFunc {
	p, add, isZero, typ := memory[E](v), a.append, a.isZero, a.typ
	return func(dst []byte) ([]byte, error) {
		if isZero(p) {
			return zeek.AppendUnsetValue(dst, typ), nil
		}
		return add(dst, p)
	}
}

func (a atom[E]) pointer(v reflect.Value) appendFunc {
	add, typ := a.append, a.typ
	if p, ok := v.Addr().Interface().(**E); ok {
		return func(dst []byte) ([]byte, error) {
			if *p == nil {
				return zeek.AppendUnsetValue(dst, typ), nil
			}
			return add(dst, *p)
		}
	}
	slot := reflect.New(v.Type().Elem()).Elem()
	p := memory[E](slot)
	return func(dst []byte) ([]byte, error) {
		if v.IsNil() {
			return zeek.AppendUnsetValue(dst, typ), nil
		}
		slot.Set(v.Elem())
		dst, err := add(dst, p)
		slot.SetZero()
		return dst, err
	}
}

func (a atom[E]) elements(v reflect.Value, container zeek.Type) appendFunc {
	add := a.append
	if p, ok := v.Addr().Interface().(*[]E); ok {
		return func(dst []byte) ([]byte, error) {
			l := list{dst: zeek.AppendContainerValue(dst, container, len(*p)), start: len(dst)}
			for i := range *p {
				if l.add(add(l.dst, &(*p)[i])) {
					break
				}
			}
			return l.dst, l.err
		}
	}

	elem := v.Type().Elem()
	if v.Kind() == reflect.Map {
		elem = v.Type().Key()
	}
	slot := reflect.New(elem).Elem()
	var one appendFunc
	if elem.Kind() == reflect.Pointer {
		one = a.pointer(slot)
	} else {
		one = a.value(slot)
	}
	iter := new(reflect.MapIter)
	return func(dst []byte) ([]byte, error) {
		l := list{dst: zeek.AppendContainerValue(dst, container, v.Len()), start: len(dst)}
		if v.Kind() == reflect.Map {
			iter.Reset(v)
			for iter.Next() {
				slot.SetIterKey(iter)
				if l.add(one(l.dst)) {
					break
				}
			}
			iter.Reset(reflect.Value{})
		} else {
			for i := range v.Len() {
				slot.Set(v.Index(i))
				if l.add(one(l.dst)) {
					break
				}
			}
		}
		slot.SetZero()
		return l.dst, l.err
	}
}

// list is a set or vector that grows by elements, up to a maximum size.
type list struct {
	dst   []byte
	start int // offset of its beginning
	err   error
}

// add takes the result of appending one element, and reports whether the list must end there.
func (l *list) add(dst []byte, err error) (stop bool) {
	if err == nil && len(dst)-l.start > maxMessage {
		err = errTooLarge
	}
	l.dst, l.err = dst, err
	return err != nil
}

// atomicOf returns how values of type t are sent. If as is not 0, they are sent as that type of
// Zeek.
func atomicOf(t reflect.Type, as zeek.Type) (atomicType, error) {
	a, choices := plainAtomic(t)
	if a == nil {
		return nil, errUnsupported(t)
	}
	if as == 0 {
		return a, nil
	}
	for _, c := range choices {
		if c.zeekType() == as {
			return c, nil
		}
	}
	return nil,
		fmt.Errorf("%v cannot be of type %v: strings can be enum, file and func; time and "+
			"interval are float64, or without option time.Time and time.Duration", t, as)
}

// errUnsupported returns the error for a column of type t. It says which types to use instead.
func errUnsupported(t reflect.Type) error {
	hint := "use bool, integers, floats, string, []byte, time.Time, time.Duration, netip.Addr, " +
		"netip.Prefix, logwriter.Port, slices of these, map[T]struct{}, pointers to these, or " +
		"structs"
	if t == ipType {
		hint = "use netip.Addr, see netip.AddrFromSlice"
	}
	return fmt.Errorf("a column cannot be of type %v: %s", t, hint)
}

// plainAtomic returns how values of type t are sent without an option, nil if they cannot be, and
// the alternatives that options choose.
func plainAtomic(t reflect.Type) (plain atomicType, choices []atomicType) {
	switch t {
	case timeType:
		return atom[time.Time]{zeek.TypeTime, appendTime,
			func(p *time.Time) bool { return p.IsZero() }}, nil
	case durationType:
		return atom[time.Duration]{zeek.TypeInterval, appendDuration, isZero[time.Duration]}, nil
	case addrType:
		return atom[netip.Addr]{zeek.TypeAddr, appendAddr, isZero[netip.Addr]}, nil
	case prefixType:
		return atom[netip.Prefix]{zeek.TypeSubnet, appendPrefix, isZero[netip.Prefix]}, nil
	case portType:
		return atom[Port]{zeek.TypePort, appendPort, isZero[Port]}, nil
	case ipType:
		return nil, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return atom[bool]{zeek.TypeBool, appendBool, isZero[bool]}, nil
	case reflect.Int:
		return integer[int](zeek.TypeInt), nil
	case reflect.Int8:
		return integer[int8](zeek.TypeInt), nil
	case reflect.Int16:
		return integer[int16](zeek.TypeInt), nil
	case reflect.Int32:
		return integer[int32](zeek.TypeInt), nil
	case reflect.Int64:
		return integer[int64](zeek.TypeInt), nil
	case reflect.Uint:
		return integer[uint](zeek.TypeCount), nil
	case reflect.Uint8:
		return integer[uint8](zeek.TypeCount), nil
	case reflect.Uint16:
		return integer[uint16](zeek.TypeCount), nil
	case reflect.Uint32:
		return integer[uint32](zeek.TypeCount), nil
	case reflect.Uint64:
		return integer[uint64](zeek.TypeCount), nil
	case reflect.Float32:
		return float[float32](zeek.TypeDouble), nil
	case reflect.Float64:
		return float[float64](zeek.TypeDouble),
			[]atomicType{float[float64](zeek.TypeTime), float[float64](zeek.TypeInterval)}
	case reflect.String:
		zero := isZero[string]
		return text(zeek.TypeString, zero),
			[]atomicType{text(zeek.TypeEnum, zero), text(zeek.TypeFile, zero),
				text(zeek.TypeFunc, zero)}
	case reflect.Slice:
		if t.Elem() != byteType {
			return nil, nil
		}
		zero := func(p *[]byte) bool { return *p == nil }
		return text(zeek.TypeString, zero),
			[]atomicType{text(zeek.TypeEnum, zero), text(zeek.TypeFile, zero),
				text(zeek.TypeFunc, zero)}
	}
	return nil, nil
}

func isZero[E comparable](p *E) bool {
	var zero E
	return *p == zero
}

func integer[E ~int | ~int8 | ~int16 | ~int32 | ~int64 |
	~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](typ zeek.Type) atomicType {
	return atom[E]{typ, func(dst []byte, p *E) ([]byte, error) {
		return zeek.AppendNumberValue(dst, typ, uint64(*p)), nil
	}, isZero[E]}
}

func float[E ~float32 | ~float64](typ zeek.Type) atomicType {
	return atom[E]{typ, func(dst []byte, p *E) ([]byte, error) {
		return zeek.AppendNumberValue(dst, typ, math.Float64bits(float64(*p))), nil
	}, isZero[E]}
}

func text[E ~string | ~[]byte](typ zeek.Type, isZero func(*E) bool) atomicType {
	return atom[E]{typ, func(dst []byte, p *E) ([]byte, error) {
		if len(*p) > maxMessage {
			return dst, errTooLarge
		}
		return zeek.AppendTextValue(dst, typ, *p)
	}, isZero}
}

func appendBool(dst []byte, p *bool) ([]byte, error) {
	var num uint64
	if *p {
		num = 1
	}
	return zeek.AppendNumberValue(dst, zeek.TypeBool, num), nil
}

// The zero values of the following types mean that there is no time, address or subnet. They are
// unset.

func appendTime(dst []byte, p *time.Time) ([]byte, error) {
	if p.IsZero() {
		return zeek.AppendUnsetValue(dst, zeek.TypeTime), nil
	}
	whole, nanos := p.Unix(), int64(p.Nanosecond())
	if whole < 0 && nanos > 0 {
		whole, nanos = whole+1, nanos-1e9
	}
	return zeek.AppendNumberValue(dst, zeek.TypeTime, math.Float64bits(seconds(whole, nanos))), nil
}

func appendAddr(dst []byte, p *netip.Addr) ([]byte, error) {
	if !p.IsValid() {
		return zeek.AppendUnsetValue(dst, zeek.TypeAddr), nil
	}
	return zeek.AppendAddrValue(dst, *p)
}

func appendPrefix(dst []byte, p *netip.Prefix) ([]byte, error) {
	if *p == (netip.Prefix{}) {
		return zeek.AppendUnsetValue(dst, zeek.TypeSubnet), nil
	}
	return zeek.AppendSubnetValue(dst, *p)
}

func appendDuration(dst []byte, p *time.Duration) ([]byte, error) {
	whole, nanos := int64(*p/time.Second), int64(*p%time.Second)
	return zeek.AppendNumberValue(dst, zeek.TypeInterval, math.Float64bits(seconds(whole, nanos))),
		nil
}

// seconds returns the double nearest to the given seconds and nanoseconds, which have the same
// sign. It is exact to the nearest double for all multiples of a microsecond, Zeek's resolution of
// time.
func seconds(whole, nanos int64) float64 {
	const exact = 1<<53/1_000_000_000 - 1 // below it every number of nanoseconds is a double
	if -exact < whole && whole < exact {
		return float64(whole*1e9+nanos) / 1e9
	}
	return float64(whole) + float64(nanos)/1e9
}

func appendPort(dst []byte, p *Port) ([]byte, error) {
	return zeek.AppendPortValue(dst, p.Number, p.Proto)
}
