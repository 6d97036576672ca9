package logwriter

import (
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

type (
	inner struct {
		A int8 `zeek:"a"`
	}
	Exported struct {
		E int8 `zeek:"e"`
	}
	cycle struct {
		A    int8   `zeek:"a"`
		Next *cycle `zeek:"next"`
	}
)

// Columns have the names, types and order that the package's documentation describes.
func TestSchema(t *testing.T) {
	type enum string
	type all struct {
		inner                 // its fields become columns
		*Exported             // its fields, too
		unexported chan error // left out
		Out        chan error `zeek:"-"`

		Rec  inner  `zeek:"rec"`
		PRec *inner `zeek:"prec"`
		Deep struct {
			Rec inner `zeek:"rec"`
		} `zeek:"deep"`

		Bool   bool          `zeek:"bool"`
		Int    int           `zeek:"int"`
		Int64  int64         `zeek:"int64,optional"`
		Uint8  uint8         `zeek:"uint8"`
		Uint   *uint         `zeek:"uint"`
		F32    float32       `zeek:"f32"`
		Time   time.Time     `zeek:"time"`
		TimeF  float64       `zeek:"timef,time"`
		Dur    time.Duration `zeek:"dur"`
		DurF   *float64      `zeek:"durf,interval"`
		Str    string        `zeek:"str"`
		Bytes  []byte        `zeek:"bytes"`
		Enum   enum          `zeek:"enum,enum,optional"`
		File   []byte        `zeek:"file,file"`
		Func   string        `zeek:"func,func"`
		Port   Port          `zeek:"port"`
		Addr   netip.Addr    `zeek:"addr"`
		Subnet netip.Prefix  `zeek:"subnet"`

		Vec     []enum                  `zeek:"vec,enum"`
		Holes   []*time.Duration        `zeek:"holes,vector"`
		Set     []Port                  `zeek:"set,set,optional"`
		Map     map[netip.Addr]struct{} `zeek:"map"`
		PVec    *[]uint8                `zeek:"pvec"` // a string
		PSet    *map[enum]struct{}      `zeek:"pset,enum"`
		Strings [][]byte                `zeek:"with space and \"日本\""`
	}
	var v all
	v.unexported = nil
	fields, _, err := compile(reflect.ValueOf(&v).Elem())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fields {
		s := f.Name + " " + f.TypeName()
		if f.Optional {
			s += " optional"
		}
		got = append(got, s)
	}
	want := strings.Split(`a int|e int|rec.a int|prec.a int|deep.rec.a int|`+
		`bool bool|int int|int64 int optional|uint8 count|uint count optional|f32 double|time time|timef time|dur interval|`+
		`durf interval optional|str string|bytes string|enum enum optional|file file|func func|port port|addr addr|subnet subnet|`+
		`vec vector[enum]|holes vector[interval]|set set[port] optional|map set[addr]|pvec string optional|pset set[enum] optional|`+
		`with space and "日本" vector[string]`, "|")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("column %d\n got %q\nwant %q", i, got[min(i, len(got)):],
				want[min(i, len(want)):])
		}
	}
}

// A struct that cannot be a record is refused. The error names the field and says what to do.
func TestSchemaRefused(t *testing.T) {
	type unexportedPointer struct{ *inner }
	for name, c := range map[string]struct {
		v    any
		want string // parts of the error
	}{
		"no struct":    {new(int), "int is not a record|use a struct"},
		"pointer":      {new(*inner), "inner is not a record"},
		"time":         {new(time.Time), "time.Time is not a record"},
		"empty":        {new(struct{}), "has no columns"},
		"all left out": {new(struct{ a int }), "has no columns"},
		"empty record": {new(struct {
			R struct{} `zeek:"r"`
		}), ".R: struct {} has no columns"},
		"no tag": {new(struct{ TS time.Time }), ".TS: the field has no tag|`zeek:\"-\"`"},
		"no name": {new(struct {
			A int `zeek:",optional"`
		}), ".A: |has no column name"},
		"empty tag": {new(struct {
			A int `zeek:""`
		}), ".A: |has no column name"},
		"control character": {new(struct {
			A int "zeek:\"a\\tb\""
		}), ".A: |control characters"},
		"unknown option": {new(struct {
			A int `zeek:"a,omitempty"`
		}), ".A: |\"omitempty\"|optional, set"},
		"empty option": {new(struct {
			A int `zeek:"a,optional,"`
		}), ".A: |\"\""},
		"two types": {new(struct {
			A string `zeek:"a,enum,file"`
		}), ".A: |\"file\"|contradicts"},
		"set and vector": {new(struct {
			A []int `zeek:"a,set,vector"`
		}), ".A: |both a set and a vector"},
		"unexported": {new(struct {
			a int `zeek:"a"`
		}), ".a: the field is not exported"},
		"embedded pointer": {new(unexportedPointer),
			"unexportedPointer.inner: the field is not exported"},
		"duplicate": {new(struct {
			A, B int `zeek:"a"`
		}), ".B: .A already has the column \"a\""},
		"duplicate by record": {new(struct {
			R inner `zeek:"r"`
			A int   `zeek:"r.a"`
		}), ".A: .R.A already has the column \"r.a\""},
		"cycle": {new(cycle), "cycle.Next: |contains itself"},
		"record with option": {new(struct {
			R inner `zeek:"r,optional"`
		}), ".R: |no options|pointer"},
		"optional pointer": {new(struct {
			A *int `zeek:"a,optional"`
		}), ".A: a pointer is always optional"},
		"pointer to pointer": {new(struct {
			A **int `zeek:"a"`
		}), ".A: a column cannot be of type *int"},
		"set of one": {new(struct {
			A int `zeek:"a,set"`
		}), ".A: int cannot be a set or vector|slice"},
		"net.IP": {new(struct {
			A net.IP `zeek:"a"`
		}), ".A: a column cannot be of type net.IP: use netip.Addr"},
		"net.IPs": {new(struct {
			A []net.IP `zeek:"a"`
		}), ".A: a column cannot be of type net.IP: use netip.Addr"},
		"channel": {new(struct {
			A chan int `zeek:"a"`
		}), ".A: a column cannot be of type chan int: use bool"},
		"any": {new(struct {
			A any `zeek:"a"`
		}), ".A: a column cannot be of type interface {}"},
		"array": {new(struct {
			A [4]byte `zeek:"a"`
		}), ".A: a column cannot be of type [4]uint8"},
		"map": {new(struct {
			A map[string]bool `zeek:"a"`
		}), ".A: map[string]bool cannot be logged: use map[T]struct{}"},
		"vector of a map": {new(struct {
			A map[string]struct{} `zeek:"a,vector"`
		}), ".A: map[string]struct {} cannot be logged"},
		"nested vector": {new(struct {
			A [][]int `zeek:"a"`
		}), ".A: a vector of []int cannot be logged|single values"},
		"vector of records": {new(struct {
			A []*inner `zeek:"a"`
		}), ".A: a vector of logwriter.inner cannot be logged"},
		"enum of a number": {new(struct {
			A int `zeek:"a,enum"`
		}), ".A: int cannot be of type enum"},
		"time of a duration": {new(struct {
			A time.Duration `zeek:"a,time"`
		}), ".A: time.Duration cannot be of type time"},
		"string as time": {new(struct {
			A string `zeek:"a,time"`
		}), ".A: string cannot be of type time"},
	} {
		_, _, err := compile(reflect.ValueOf(c.v).Elem())
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for part := range strings.SplitSeq(c.want, "|") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error does not say %q: %v", name, part, err)
			}
		}
	}

	var fields []reflect.StructField
	for i := range maxColumns + 1 {
		name := strconv.Itoa(i)
		fields = append(fields, reflect.StructField{Name: "F" + name,
			Type: reflect.TypeFor[int](), Tag: reflect.StructTag(`zeek:"` + name + `"`)})
	}
	if _, _, err := compile(reflect.New(reflect.StructOf(fields)).Elem()); err == nil ||
		!strings.Contains(err.Error(), ".F1000: the record has more than 1000 columns") {
		t.Errorf("too many columns: %v", err)
	}
	if _, _, err := compile(reflect.New(reflect.StructOf(fields[:maxColumns])).Elem()); err != nil {
		t.Errorf("as many columns as allowed: %v", err)
	}
}
