package logwriter

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"zmtpd/pipeline/zeek"
)

// maxColumns bounds a schema. Zeek's logs have at most some thirty columns, so a struct with many
// more is probably a mistake.
const maxColumns = 1000

// Port is a port of a transport protocol, Zeek's type port. Logs show only the number.
type Port struct {
	Number uint16
	Proto  zeek.Proto
}

// Structs and slices that are atomic, and net.IP, which is not but looks as if it were.
var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	addrType     = reflect.TypeFor[netip.Addr]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	portType     = reflect.TypeFor[Port]()
	byteType     = reflect.TypeFor[byte]()
	ipType       = reflect.TypeFor[net.IP]()
	emptyType    = reflect.TypeFor[struct{}]()
)

// isRecord reports whether t is a struct whose fields are columns.
func isRecord(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && t != addrType && t != prefixType &&
		t != portType
}

// isContainer reports whether values of t can be sets or vectors.
func isContainer(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem() != byteType || t.Kind() == reflect.Map
}

// tag is a parsed `zeek:"name,option..."`.
type tag struct {
	name     string
	optional bool
	as       zeek.Type // enum, file or func instead of string; time or interval instead of double
	set      bool
	vector   bool
}

var asOptions = map[string]zeek.Type{
	"enum": zeek.TypeEnum, "file": zeek.TypeFile, "func": zeek.TypeFunc, "time": zeek.TypeTime,
	"interval": zeek.TypeInterval,
}

func parseTag(text string) (tag, error) {
	name, options, _ := strings.Cut(text, ",")
	t := tag{name: name}
	if name == "" {
		return t, fmt.Errorf("the tag `zeek:%q` has no column name before the comma", text)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return t, fmt.Errorf("%q cannot be a column name: it has control characters", name)
	}
	for option := range strings.SplitSeq(options, ",") {
		as, isType := asOptions[option]
		switch {
		case option == "" && options == "":
		case option == "optional":
			t.optional = true
		case option == "set":
			t.set = true
		case option == "vector":
			t.vector = true
		case isType && t.as == 0:
			t.as = as
		default:
			return t,
				fmt.Errorf("the option %q of the tag is unknown or contradicts another one: use "+
					"optional, set or vector, and one of enum, file, func, time, interval",
					option)
		}
	}
	if t.set && t.vector {
		return t, fmt.Errorf("a column cannot be both a set and a vector")
	}
	return t, nil
}

// compiler makes the columns of a struct, depth first, as Zeek flattens records.
type compiler struct {
	fields []zeek.Field
	owners map[string]string // from the column to the Go field
	within []reflect.Type    // the structs around the current one
}

// compile returns the columns of the struct in v, and functions that append their values. They are
// bound to v's memory: they append what is in it when they are called. The error names the Go
// field.
func compile(v reflect.Value) ([]zeek.Field, columns, error) {
	t := v.Type()
	if !isRecord(t) {
		return nil, nil,
			fmt.Errorf("%v is not a record: use a struct with a tag such as `zeek:\"ts\"` for "+
				"each column", t)
	}
	c := compiler{owners: map[string]string{}}
	cols, err := c.record(v, "", t.Name())
	return c.fields, cols, err
}

// record adds the columns of the struct in v. Their names begin with prefix. path is the Go name of
// v.
func (c *compiler) record(v reflect.Value, prefix, path string) (columns, error) {
	t := v.Type()
	if slices.Contains(c.within, t) {
		return nil,
			fmt.Errorf("%s: %v contains itself, but a record of Zeek has a fixed number of "+
				"columns: leave the field out with `zeek:\"-\"`", path, t)
	}
	c.within = append(c.within, t)
	defer func() { c.within = c.within[:len(c.within)-1] }()

	var cols columns
	before := len(c.fields)
	for i := range t.NumField() {
		f := t.Field(i)
		col, err := c.field(f, v.Field(i), prefix, path+"."+f.Name)
		if err != nil {
			return nil, err
		}
		cols = append(cols, col...)
	}
	if len(c.fields) == before {
		return nil, fmt.Errorf("%s: %v has no columns: give its fields tags such as `zeek:\"ts\"`",
			path, t)
	}
	return cols, nil
}

// field adds the columns of field f of a struct, unless the log leaves it out.
func (c *compiler) field(f reflect.StructField, v reflect.Value, prefix, path string) (columns,
	error) {
	text, tagged := f.Tag.Lookup("zeek")
	target := f.Type
	if target.Kind() == reflect.Pointer {
		target = target.Elem()
	}
	switch {
	case text == "-":
		return nil, nil
	case f.Anonymous && !tagged && isRecord(target) && (f.IsExported() || target == f.Type):
		return c.nested(v, prefix, path)
	case !f.IsExported() && !(f.Anonymous && isRecord(f.Type)):
		if tagged || f.Anonymous {
			return nil,
				fmt.Errorf("%s: the field is not exported and cannot be read: export it, or give "+
					"it the tag `zeek:\"-\"`", path)
		}
		return nil, nil
	case !tagged:
		return nil,
			fmt.Errorf("%s: the field has no tag: name its column, as in `zeek:\"ts\"`, or leave "+
				"it out with `zeek:\"-\"`", path)
	}
	tag, err := parseTag(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if isRecord(target) {
		if tag.optional || tag.as != 0 || tag.set || tag.vector {
			return nil,
				fmt.Errorf("%s: a record takes no options in its tag; make it a pointer if it "+
					"may be unset", path)
		}
		return c.nested(v, prefix+tag.name+".", path)
	}
	col, field, err := c.column(v, tag)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	field.Name = prefix + tag.name
	if owner, taken := c.owners[field.Name]; taken {
		return nil, fmt.Errorf("%s: %s already has the column %q: rename one of them", path,
			owner, field.Name)
	}
	if len(c.fields) == maxColumns {
		return nil,
			fmt.Errorf("%s: the record has more than %d columns: leave some out with `zeek:\"-\"`",
				path, maxColumns)
	}
	c.owners[field.Name] = path
	c.fields = append(c.fields, field)
	return columns{{name: field.Name, append: col}}, nil
}

// nested adds the columns of a nested record, or of a pointer to one. If the pointer is nil, all of
// them are unset. As in Zeek, this does not make the columns optional.
func (c *compiler) nested(v reflect.Value, prefix, path string) (columns, error) {
	if v.Kind() != reflect.Pointer {
		return c.record(v, prefix, path)
	}
	slot := reflect.New(v.Type().Elem()).Elem()
	first := len(c.fields)
	cols, err := c.record(slot, prefix, path)
	if err != nil {
		return nil, err
	}
	var unset []byte
	for _, f := range c.fields[first:] {
		unset = zeek.AppendUnsetValue(unset, f.Type)
	}
	return columns{{append: func(dst []byte) ([]byte, error) {
		if v.IsNil() {
			return append(dst, unset...), nil
		}
		slot.Set(v.Elem())
		dst, err := cols.append(dst)
		slot.SetZero()
		return dst, err
	}}}, nil
}

// column makes the column of a field that is not a record.
func (c *compiler) column(v reflect.Value, tag tag) (appendFunc, zeek.Field, error) {
	t := v.Type()
	field := zeek.Field{Optional: tag.optional}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		field.Optional = true
		if tag.optional {
			return nil, field,
				fmt.Errorf("a pointer is always optional: remove the option or the pointer")
		}
	}
	if !isContainer(t) {
		if tag.set || tag.vector {
			return nil, field, fmt.Errorf("%v cannot be a set or vector: use a slice", t)
		}
		atomic, err := atomicOf(t, tag.as)
		if err != nil {
			return nil, field, err
		}
		field.Type = atomic.zeekType()
		switch {
		case v.Kind() == reflect.Pointer:
			return atomic.pointer(v), field, nil
		case tag.optional:
			return atomic.optional(v), field, nil
		}
		return atomic.value(v), field, nil
	}

	field.Type = zeek.TypeVector
	if tag.set || t.Kind() == reflect.Map {
		field.Type = zeek.TypeSet
	}
	if t.Kind() == reflect.Map && (tag.vector || t.Elem() != emptyType) {
		return nil, field,
			fmt.Errorf("%v cannot be logged: use map[T]struct{} or a slice with the option "+
				"set for a set, and a slice for a vector", t)
	}
	elem := t.Elem()
	if t.Kind() == reflect.Map {
		elem = t.Key()
	} else if elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	if isRecord(elem) || isContainer(elem) {
		return nil, field,
			fmt.Errorf("a %v of %v cannot be logged: the elements of sets and vectors are single "+
				"values", field.Type, elem)
	}
	atomic, err := atomicOf(elem, tag.as)
	if err != nil {
		return nil, field, err
	}
	field.Subtype = atomic.zeekType()
	return containerOf(v, field, atomic), field, nil
}

// containerOf appends the set or vector in v, or the one to which v points.
func containerOf(v reflect.Value, field zeek.Field, atomic atomicType) appendFunc {
	slot := v
	if v.Kind() == reflect.Pointer {
		slot = reflect.New(v.Type().Elem()).Elem()
	}
	content := atomic.elements(slot, field.Type)
	if !field.Optional {
		return content
	}
	unset := zeek.AppendUnsetValue(nil, field.Type)
	return func(dst []byte) ([]byte, error) {
		if v.IsNil() {
			return append(dst, unset...), nil
		}
		if v.Kind() == reflect.Pointer {
			slot.Set(v.Elem())
			defer slot.SetZero()
		}
		return content(dst)
	}
}
