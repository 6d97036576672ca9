package logwriter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline/zeek"
)

type (
	namedBool   bool
	namedInt    int16
	namedUint   uint32
	namedFloat  float64
	namedString string
	namedBytes  []byte
)

// sample is a Go type with atomic values, and a function that draws a value and its form in a
// batch.
type sample struct {
	typ    reflect.Type
	option string
	zeek   zeek.Type
	draw   func(t *rapid.T) (v any, want zeek.Value)
}

func sampleOf[E any](option string, typ zeek.Type, draw func(t *rapid.T) (E, zeek.Value)) sample {
	return sample{reflect.TypeFor[E](), option, typ,
		func(t *rapid.T) (any, zeek.Value) { return draw(t) }}
}

func signed[E ~int | ~int8 | ~int16 | ~int32 | ~int64](g *rapid.Generator[E]) sample {
	return sampleOf("", zeek.TypeInt, func(t *rapid.T) (E, zeek.Value) {
		v := g.Draw(t, "int")
		return v, zeek.Int(int64(v))
	})
}

func unsigned[E ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](g *rapid.Generator[E]) sample {
	return sampleOf("", zeek.TypeCount, func(t *rapid.T) (E, zeek.Value) {
		v := g.Draw(t, "uint")
		return v, zeek.Count(uint64(v))
	})
}

func textual[E ~string | ~[]byte](option string, typ zeek.Type) sample {
	return sampleOf(option, typ, func(t *rapid.T) (E, zeek.Value) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "text")
		return E(b), zeek.Value{Type: typ, Text: string(b)}
	})
}

func floating[E ~float64](option string, typ zeek.Type) sample {
	return sampleOf(option, typ, func(t *rapid.T) (E, zeek.Value) {
		v := rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()), rapid.Just(math.Inf(-1)),
			rapid.Just(math.Copysign(0, -1))).Draw(t, "float")
		return E(v), zeek.Value{Type: typ, Num: math.Float64bits(v)}
	})
}

func drawAddr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv4") {
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
	}
	return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")))
}

var samples = []sample{
	sampleOf("", zeek.TypeBool, func(t *rapid.T) (bool, zeek.Value) {
		v := rapid.Bool().Draw(t, "bool")
		return v, zeek.Bool(v)
	}),
	sampleOf("", zeek.TypeBool, func(t *rapid.T) (namedBool, zeek.Value) {
		v := rapid.Bool().Draw(t, "bool")
		return namedBool(v), zeek.Bool(v)
	}),
	signed(rapid.Int()), signed(rapid.Int8()), signed(rapid.Int16()), signed(rapid.Int32()),
	signed(rapid.Int64()),
	signed(rapid.Map(rapid.Int16(), func(v int16) namedInt { return namedInt(v) })),
	unsigned(rapid.Uint()), unsigned(rapid.Uint8()), unsigned(rapid.Uint16()),
	unsigned(rapid.Uint32()), unsigned(rapid.Uint64()),
	unsigned(rapid.Map(rapid.Uint32(), func(v uint32) namedUint { return namedUint(v) })),
	floating[float64]("", zeek.TypeDouble), floating[float64]("time", zeek.TypeTime),
	floating[namedFloat]("interval", zeek.TypeInterval),
	sampleOf("", zeek.TypeDouble, func(t *rapid.T) (float32, zeek.Value) {
		v := rapid.Float32().Draw(t, "float")
		return v, zeek.Double(float64(v))
	}),
	sampleOf("", zeek.TypeTime, func(t *rapid.T) (time.Time, zeek.Value) {
		if rapid.IntRange(0, 5).Draw(t, "zero") == 0 {
			return time.Time{}, zeek.Unset(zeek.TypeTime)
		}
		us := rapid.Int64Range(-4e15, 4e15).Draw(t, "microseconds")
		return time.UnixMicro(us), zeek.Time(float64(us) / 1e6)
	}),
	sampleOf("", zeek.TypeInterval, func(t *rapid.T) (time.Duration, zeek.Value) {
		ms := rapid.Int64Range(-1e12, 1e12).Draw(t, "milliseconds")
		return time.Duration(ms) * time.Millisecond, zeek.Interval(float64(ms) / 1e3)
	}),
	textual[string]("", zeek.TypeString), textual[[]byte]("", zeek.TypeString),
	textual[namedString]("", zeek.TypeString), textual[namedBytes]("", zeek.TypeString),
	textual[string]("enum", zeek.TypeEnum), textual[namedString]("enum", zeek.TypeEnum),
	textual[string]("file", zeek.TypeFile), textual[[]byte]("func", zeek.TypeFunc),
	sampleOf("", zeek.TypePort, func(t *rapid.T) (Port, zeek.Value) {
		p := Port{rapid.Uint16().Draw(t, "port"),
			zeek.Proto(rapid.Int32Range(0, 3).Draw(t, "protocol"))}
		return p, zeek.Port(p.Number, p.Proto)
	}),
	sampleOf("", zeek.TypeAddr, func(t *rapid.T) (netip.Addr, zeek.Value) {
		if rapid.IntRange(0, 5).Draw(t, "zero") == 0 {
			return netip.Addr{}, zeek.Unset(zeek.TypeAddr)
		}
		a := drawAddr(t)
		return a, zeek.Addr(a)
	}),
	sampleOf("", zeek.TypeSubnet, func(t *rapid.T) (netip.Prefix, zeek.Value) {
		if rapid.IntRange(0, 5).Draw(t, "zero") == 0 {
			return netip.Prefix{}, zeek.Unset(zeek.TypeSubnet)
		}
		a := drawAddr(t)
		p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		return p, zeek.Subnet(p)
	}),
}

// property is the type of a field, the options of its tag, its columns, and a function that draws a
// value.
type property struct {
	typ    reflect.Type
	option string
	fields []zeek.Field // without the name of the field; nested ones begin with a dot
	draw   func(t *rapid.T) (reflect.Value, []zeek.Value)
}

func drawProperty(t *rapid.T, depth int) property {
	s := rapid.SampledFrom(samples).Draw(t, "type")
	field := zeek.Field{Type: s.zeek}
	one := func(t *rapid.T) (reflect.Value, zeek.Value) {
		v, want := s.draw(t)
		return reflect.ValueOf(v), want
	}
	single := func(typ reflect.Type, option string,
		draw func(t *rapid.T) (reflect.Value, zeek.Value)) property {
		return property{typ, option, []zeek.Field{field},
			func(t *rapid.T) (reflect.Value, []zeek.Value) {
				v, want := draw(t)
				return v, []zeek.Value{want}
			}}
	}
	pointed := func(draw func(t *rapid.T) (reflect.Value,
		zeek.Value)) func(t *rapid.T) (reflect.Value, zeek.Value) {
		return func(t *rapid.T) (reflect.Value, zeek.Value) {
			v, want := draw(t)
			if rapid.IntRange(0, 2).Draw(t, "nil") == 0 {
				return reflect.Zero(reflect.PointerTo(v.Type())), zeek.Unset(want.Type)
			}
			p := reflect.New(v.Type())
			p.Elem().Set(v)
			return p, want
		}
	}
	container := func(container zeek.Type, elem reflect.Type,
		one func(t *rapid.T) (reflect.Value, zeek.Value)) func(t *rapid.T) (reflect.Value,
		zeek.Value) {
		field = zeek.Field{Type: container, Subtype: s.zeek}
		return func(t *rapid.T) (reflect.Value, zeek.Value) {
			v, want := reflect.Zero(reflect.SliceOf(elem)),
				zeek.Value{Type: container, Elems: []zeek.Value{}}
			for range rapid.IntRange(0, 4).Draw(t, "elements") {
				e, w := one(t)
				v, want.Elems = reflect.Append(v, e), append(want.Elems, w)
			}
			return v, want
		}
	}
	shape := rapid.IntRange(0, 8+depth).Draw(t, "shape")
	if s.typ == reflect.TypeFor[uint8]() && shape >= 3 && shape <= 5 {
		shape = 0 // a slice of bytes is a string
	}
	switch shape {
	case 1: // optional
		field.Optional = true
		return single(s.typ, ",optional"+comma(s.option),
			func(t *rapid.T) (reflect.Value, zeek.Value) {
				v, want := one(t)
				if v.IsZero() || v.Kind() == reflect.Float64 && v.Float() == 0 {
					want = zeek.Unset(s.zeek)
				}
				return v, want
			})
	case 2: // pointer
		field.Optional = true
		return single(reflect.PointerTo(s.typ), comma(s.option), pointed(one))
	case 3: // vector
		draw := container(zeek.TypeVector, s.typ, one)
		return single(reflect.SliceOf(s.typ), comma(s.option), draw)
	case 4: // optional set
		draw := container(zeek.TypeSet, s.typ, one)
		field.Optional = true
		return single(reflect.SliceOf(s.typ), ",set,optional"+comma(s.option),
			func(t *rapid.T) (reflect.Value, zeek.Value) {
				v, want := draw(t)
				if v.IsNil() {
					want = zeek.Unset(zeek.TypeSet)
				}
				return v, want
			})
	case 5: // pointer to a set
		draw := container(zeek.TypeSet, s.typ, one)
		field.Optional = true
		return single(reflect.PointerTo(reflect.SliceOf(s.typ)), ",set"+comma(s.option),
			pointed(draw))
	case 6: // vector with holes
		draw := container(zeek.TypeVector, reflect.PointerTo(s.typ), pointed(one))
		return single(reflect.SliceOf(reflect.PointerTo(s.typ)), ",vector"+comma(s.option), draw)
	case 7: // map of at most one element, since Go's order is random
		if !s.typ.Comparable() {
			break
		}
		field = zeek.Field{Type: zeek.TypeSet, Subtype: s.zeek}
		typ := reflect.MapOf(s.typ, emptyType)
		return single(typ, comma(s.option), func(t *rapid.T) (reflect.Value, zeek.Value) {
			v, want := reflect.MakeMap(typ), zeek.Set()
			if rapid.Bool().Draw(t, "element") {
				e, w := one(t)
				v.SetMapIndex(e, reflect.ValueOf(struct{}{}))
				want.Elems = append(want.Elems, w)
			}
			return v, want
		})
	case 9: // record
		return drawRecord(t, depth-1)
	case 10: // pointer to a record
		r := drawRecord(t, depth-1)
		return property{reflect.PointerTo(r.typ), "", r.fields,
			func(t *rapid.T) (reflect.Value, []zeek.Value) {
				v, want := r.draw(t)
				if rapid.IntRange(0, 2).Draw(t, "nil") == 0 {
					for i := range want {
						want[i] = zeek.Unset(want[i].Type)
					}
					return reflect.Zero(reflect.PointerTo(r.typ)), want
				}
				p := reflect.New(r.typ)
				p.Elem().Set(v)
				return p, want
			}}
	}
	return single(s.typ, comma(s.option), one)
}

func comma(option string) string {
	if option != "" {
		return "," + option
	}
	return ""
}

// drawRecord draws a struct type with some fields.
func drawRecord(t *rapid.T, depth int) property {
	var parts []property
	var structFields []reflect.StructField
	var r property
	for i := range rapid.IntRange(1, 5).Draw(t, "fields") {
		p := drawProperty(t, depth)
		parts = append(parts, p)
		name := fmt.Sprintf("c%d", i)
		structFields = append(structFields,
			reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: p.typ,
				Tag: reflect.StructTag(fmt.Sprintf("zeek:%q", name+p.option))})
		for _, f := range p.fields {
			f.Name = "." + name + f.Name
			r.fields = append(r.fields, f)
		}
	}
	r.typ = reflect.StructOf(structFields)
	r.draw = func(t *rapid.T) (reflect.Value, []zeek.Value) {
		v := reflect.New(r.typ).Elem()
		var want []zeek.Value
		for i, p := range parts {
			value, w := p.draw(t)
			v.Field(i).Set(value)
			want = append(want, w...)
		}
		return v, want
	}
	return r
}

// A Writer makes the bytes that AppendBatch makes, for any values of any struct. They are read back
// as the same values.
func TestAnyStructIsWrittenAsAppendBatchDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t, 2)
		schema := &zeek.Schema{Stream: "S::LOG", Writer: "W", Filter: "default", Path: "p",
			Fields: slices.Clone(r.fields)}
		for i := range schema.Fields {
			schema.Fields[i].Name = schema.Fields[i].Name[1:]
		}
		slot := reflect.New(r.typ).Elem()
		fields, cols, err := compile(slot)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(fields, schema.Fields) {
			t.Fatalf("columns\n got %+v\nwant %+v", fields, schema.Fields)
		}
		b, err := newBatch("n", schema, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // batches
			var records [][]zeek.Value
			for range rapid.IntRange(0, 3).Draw(t, "records") {
				v, want := r.draw(t)
				records = append(records, want)
				slot.Set(v)
				if b.buf, err = cols.append(b.buf); err != nil {
					t.Fatal(err)
				}
				b.records++
			}
			want, err := zeek.AppendBatch(nil, schema, records)
			if err != nil {
				t.Fatal(err)
			}
			m, _ := b.seal()
			if got := m.Part(3); !bytes.Equal(got, want) {
				t.Fatal(difference(got, want))
			}
			_, decoded := readBack(t, m.Part(3))
			for i := range records {
				for j := range records[i] {
					if got, want := fmt.Sprint(decoded[i][j]),
						fmt.Sprint(records[i][j]); got != want {
						t.Fatalf("record %d, column %q: %s, want %s", i, fields[j].Name, got, want)
					}
				}
			}
		}
	})
}

// readBack decodes and renders a batch, as a logger would.
func readBack(t *rapid.T, raw []byte) (lines []byte, records [][]zeek.Value) {
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	s, err := zeek.ParseSchema(b.Header)
	if err != nil {
		t.Fatal(err)
	}
	if records, err = zeek.DecodeRecords(b, s); err != nil {
		t.Fatal(err)
	}
	r, err := zeek.NewRenderer(s, zeek.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	lines, n, err := r.AppendRecords(nil, b)
	if err != nil || n != len(records) {
		t.Fatalf("%d records rendered, %v; want %d", n, err, len(records))
	}
	return lines, records
}

// All keys of a map become elements of a set.
func TestMap(t *testing.T) {
	type record struct {
		Named map[namedInt]struct{}   `zeek:"named"`
		Addrs map[netip.Addr]struct{} `zeek:"addrs"`
	}
	q := make(queue, 1)
	w := newWriter[record](t, q, Config{})
	r := record{map[namedInt]struct{}{}, map[netip.Addr]struct{}{}}
	for i := range 100 {
		r.Named[namedInt(i)] = struct{}{}
		r.Addrs[netip.AddrFrom4([4]byte{byte(i)})] = struct{}{}
	}
	write(t, w, r, record{})
	flush(t, w)
	_, records := decode(t, q.parts(t)[3])
	for _, set := range records[0] {
		seen := map[string]bool{}
		for _, e := range set.Elems {
			seen[fmt.Sprint(e.Num, e.Addr)] = true
		}
		if set.Type != zeek.TypeSet || len(set.Elems) != 100 || len(seen) != 100 {
			t.Errorf("a %v with %d elements, %d different", set.Type, len(set.Elems), len(seen))
		}
	}
	for _, set := range records[1] {
		if set.Unset || len(set.Elems) != 0 {
			t.Errorf("a nil map gives %+v, want an empty set", set)
		}
	}
}

// A record that cannot be sent is refused with the name of the column, and does not affect the next
// record.
func TestRefusedValues(t *testing.T) {
	type record struct {
		N    uint64      `zeek:"n"`
		Addr *netip.Addr `zeek:"a.addr"`
		Sub  *struct {
			Net []netip.Prefix `zeek:"net"`
		} `zeek:"sub"`
		Port Port `zeek:"port"`
	}
	q := make(queue, 1)
	w := newWriter[record](t, q, Config{})
	zone := netip.MustParseAddr("fe80::1%eth0")
	for want, r := range map[string]record{
		`logwriter: column "a.addr": fe80::1%eth0 cannot be sent`: {Addr: &zone},
		`logwriter: column "sub.net": `: {Sub: &struct {
			Net []netip.Prefix `zeek:"net"`
		}{[]netip.Prefix{netip.PrefixFrom(netip.IPv6Loopback(), 200)}}},
		`logwriter: column "port": a port cannot have protocol 17`: {Port: Port{53, 17}},
	} {
		if err := w.Write(t.Context(), r); err == nil ||
			!bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%v, want %s", err, want)
		}
		write(t, w, record{N: 7})
	}
	flush(t, w)
	_, records := decode(t, q.parts(t)[3])
	if len(records) != 3 || records[0][0].Num != 7 || records[2][0].Num != 7 ||
		!records[0][2].Unset {
		t.Errorf("records %+v", records)
	}
}

// Times before 1970 and negative intervals are as exact as others.
func TestSeconds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(-1<<53, 1<<53).Draw(t, "microseconds")
		at, d := time.UnixMicro(us), time.Duration(us)*time.Microsecond
		for _, add := range []func() ([]byte, error){
			func() ([]byte, error) { return appendTime(nil, &at) },
			func() ([]byte, error) { return appendDuration(nil, &d) },
		} {
			b, err := add()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := math.Float64frombits(binary.BigEndian.Uint64(b[9:])),
				float64(us)/1e6; got != want {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	})
}
