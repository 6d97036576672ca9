package zeek

import (
	"fmt"
	"net/netip"
	"strings"

	"pgregory.net/rapid"
)

// Generators of records and options for property tests.

var atomicTypes = []Type{TypeBool, TypeInt, TypeCount, TypeDouble, TypeTime, TypeInterval,
	TypeString,
	TypeEnum, TypePort, TypeAddr, TypeSubnet, TypeFunc, TypeFile}

// anyText draws strings that are likely to meet separators, markers and bad UTF-8.
func anyText() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{"a", "b", " ", "\t", ",", "<", ">", "<>", "<>,", "|", ".",
		`\`, "-", "(empty)", "#", `"`, "/",
		"é", "é\x01", `""`, "ab\tcd", `<\`, "®", "\xc2", "\xae", "日", "🚀", "\x00", "\x01", "\x7f",
		"\n", "\b", "\ufffd", "\ue000", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "x41"})
	return rapid.OneOf(rapid.Just(""), piece,
		rapid.Map(rapid.SliceOfN(piece, 0, 8),
			func(p []string) string { return strings.Join(p, "") }))
}

// anyAtomic draws a value of an atomic type. Doubles are multiples of an eighth: every way of
// writing them gives the same digits. The exact digits have tests of their own.
func anyAtomic(t *rapid.T, typ Type) Value {
	if rapid.IntRange(0, 5).Draw(t, "unset") == 0 {
		return Unset(typ)
	}
	eighths := func() float64 {
		return float64(rapid.Int64Range(-1<<36, 1<<36).Draw(t, "eighths")) / 8
	}
	text := func() string { return anyText().Draw(t, "text") }
	switch typ {
	case TypeBool:
		return Bool(rapid.Bool().Draw(t, "bool"))
	case TypeInt:
		return Int(rapid.Int64().Draw(t, "int"))
	case TypeCount:
		return Count(rapid.Uint64().Draw(t, "count"))
	case TypeDouble:
		return Double(eighths())
	case TypeTime:
		return Time(eighths())
	case TypeInterval:
		return Interval(eighths())
	case TypePort:
		return Port(rapid.Uint16().Draw(t, "port"), Proto(rapid.Int32Range(0, 3).Draw(t, "proto")))
	case TypeAddr:
		return Addr(anyAddr().Draw(t, "addr"))
	case TypeSubnet:
		a := anyAddr().Draw(t, "addr")
		return Subnet(netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")))
	case TypeString:
		return String(text())
	case TypeEnum:
		return Enum(text())
	case TypeFile:
		return File(text())
	case TypeFunc:
		return Func(text())
	}
	panic(typ)
}

func anyValue(t *rapid.T, f Field) Value {
	if !f.Type.isContainer() {
		return anyAtomic(t, f.Type)
	}
	if rapid.IntRange(0, 5).Draw(t, "unset") == 0 {
		return Unset(f.Type)
	}
	v := Value{Type: f.Type, Elems: []Value{}}
	for range rapid.IntRange(0, 4).Draw(t, "elements") {
		v.Elems = append(v.Elems, anyAtomic(t, f.Subtype))
	}
	return v
}

func anySchema(t *rapid.T) *Schema {
	s := &Schema{Stream: "S::LOG", Writer: "W", Filter: anyText().Draw(t, "filter"),
		Path: anyText().Draw(t, "path")}
	for i := range rapid.IntRange(1, 5).Draw(t, "fields") {
		f := Field{Name: fmt.Sprintf("f%d\"", i),
			Type:     rapid.SampledFrom(append(atomicTypes, TypeSet, TypeVector)).Draw(t, "type"),
			Optional: rapid.Bool().Draw(t, "optional")}
		if f.Type.isContainer() {
			f.Subtype = rapid.SampledFrom(atomicTypes).Draw(t, "subtype")
		}
		s.Fields = append(s.Fields, f)
	}
	return s
}

func anyOptions(t *rapid.T) Options {
	separators := []string{"\t", ",", "|", ".", "<>", "<>,", "®", "\xc2", "a", "ab", "\\", `<\`,
		"\ta", "0", "-"}
	markers := []string{"", "-", "(empty)", "#", "<>", `\`, "a", "é\x01", `""`, "ab\tcd"}
	return Options{
		Separator:              rapid.SampledFrom(separators).Draw(t, "separator"),
		SetSeparator:           rapid.SampledFrom(separators).Draw(t, "set_separator"),
		EmptyField:             rapid.SampledFrom(markers).Draw(t, "empty_field"),
		UnsetField:             rapid.SampledFrom(markers).Draw(t, "unset_field"),
		MetaPrefix:             rapid.SampledFrom(markers).Draw(t, "meta_prefix"),
		EnableUTF8:             rapid.Bool().Draw(t, "enable_utf_8"),
		JSONIncludeUnsetFields: rapid.Bool().Draw(t, "json_include_unset_fields"),
		JSONTimestamps: rapid.
			SampledFrom([]JSONTimestamps{0, 1, 2, 3}).Draw(t, "json_timestamps"),
		JSONStringEscapePolicy: rapid.SampledFrom([]StringEscapePolicy{0, 1, 2}).
			Draw(t, "json_string_escape_policy"),
	}
}
