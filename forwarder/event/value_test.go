package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors has the values of broker's own tests (format/bin.test.cc, builder.test.cc) and the
// event of Zeek's (cluster/serializer/broker/Serializer.cc).
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, "00"},
		{false, "0100"},
		{uint64(1234567890), "02 00000000499602d2"},
		{uint8(7), "02 0000000000000007"},
		{int64(-1234567890), "03 ffffffffb669fd2e"},
		{1.0, "04 3ff0000000000000"},
		{-1.0, "04 bff0000000000000"},
		{2.5, "04 4004000000000000"},
		{math.Inf(1), "04 fff0000000000000"},
		{math.Inf(-1), "04 7ff0000000000000"},
		{math.NaN(), "04 ffffffffffffffff"},
		{5e-324, "04 0000000000000000"},
		{"hello world", "05 0b 68656c6c6f20776f726c64"},
		{[]byte("hello"), "05 05 68656c6c6f"},
		{netip.MustParseAddr("192.168.9.8"), "06 00000000000000000000ffffc0a80908"},
		{netip.MustParsePrefix("192.168.9.8/24"), "07 00000000000000000000ffffc0a80900 78"},
		{netip.MustParsePrefix("2001:db8::/32"), "07 20010db8000000000000000000000000 20"},
		{Port{8080, ProtoTCP}, "08 1f90 01"},
		{Port{9000, ProtoUDP}, "08 2328 02"},
		{time.Unix(0, 1234567890), "09 00000000499602d2"},
		{1500 * time.Millisecond, "0a 0000000059682f00"},
		{Enum("foobar"), "0b 06 666f6f626172"},
		{Set{}, "0c00"},
		{Set{nil}, "0c0100"},
		{Set{"hello world", false, uint64(1)},
			"0c 03 0100 020000000000000001 050b68656c6c6f20776f726c64"},
		{map[string]struct{}{"hello": {}, "broker": {}},
			"0c02 0506 62726f6b6572 0505 68656c6c6f"},
		{map[struct {
			Host netip.Addr
			Port Port
		}]struct{}{{netip.MustParseAddr("10.0.0.1"), Port{53, ProtoUDP}}: {}},
			"0c 01 0e 02 0600000000000000000000ffff0a000001 08003502"},
		{Table{}, "0d00"},
		{map[string]*int{"k1": nil}, "0d01 0502 6b31 00"},
		{map[uint64]string{2: "world", 1: "hello"},
			"0d 02 020000000000000001 050568656c6c6f 020000000000000002 0505776f726c64"},
		{Vector{}, "0e00"},
		{[]any{nil}, "0e0100"},
		{[]string{"hello", "broker"}, "0e02 0505 68656c6c6f 0506 62726f6b6572"},
		{strings.Repeat("x", 300), "05 ac02" + strings.Repeat("78", 300)},
	} {
		got, err := Append(nil, c.value)
		if want := unhex(t, c.want); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %v\n%x\n%x", c.value, err, got, want)
		}
		if _, err := Parse(got); err != nil {
			t.Errorf("%v: %v", c.value, err)
		}
	}
	got, err := AppendEvent(nil, "Supervisor::node_status", []any{"TEST", uint64(42)},
		Metadata{NetworkTimestamp, time.Unix(0, 0)})
	want := unhex(t, `0e030200000000000000010200000000000000010e03051753757065727669736f723a3a6e6f`+
		`64655f7374617475730e0205045445535402000000000000002a0e010e02020000000000000001090000000000000000`)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the event: %v\n%x\n%x", err, got, want)
	}
	e, err := ParseEvent(got)
	if err != nil || string(e.Name) != "Supervisor::node_status" {
		t.Fatalf("%q, %v", e.Name, err)
	}
	var name string
	var count uint64
	if err := e.Decode(&name, &count); err != nil || name != "TEST" || count != 42 {
		t.Errorf("%q, %d, %v", name, count, err)
	}
	if at, ok := e.NetworkTime(); !ok || at.UnixNano() != 0 {
		t.Errorf("network time %v, %v", at, ok)
	}
}

// TestRefused has values that are wrong, each with its reason.
func TestRefused(t *testing.T) {
	deep := strings.Repeat("0e01", MaxDepth) + "00"
	if _, err := Parse(unhex(t, deep)); err != nil {
		t.Errorf("%d deep: %v", MaxDepth, err)
	}
	for _, c := range []struct {
		name, b string
		want    Reason
	}{
		{"nothing", "", Truncated},
		{"an unknown tag", "0f", UnknownTag},
		{"something behind it", "0000", Trailing},
		{"a short count", "0200", Truncated},
		{"a string that is too long", "05 05 6868", Truncated},
		{"a string of 4 GiB", "05 ffffffff0f", Truncated},
		{"a length of 64 bits", "05 ffffffffffffffffff01", BadValue},
		{"a length without end", "05 ffff", BadValue},
		{"a vector of 4 billion", "0e ffffffff0f 00", Truncated},
		{"a table with half an entry", "0d 01 00", Truncated},
		{"a protocol 4", "08 0050 04", BadValue},
		{"a subnet of 129 bits", "07 20010db8000000000000000000000000 81", BadValue},
		{"a subnet of IPv4 with too few bits", "07 00000000000000000000ffffc0a80900 5f", BadValue},
		{"a set with an element twice", "0c 02 0101 0101", Duplicate},
		{"a set with an element twice, in no order", "0c 03 0101 0100 0101", Duplicate},
		{"a table with a key twice", "0d 02 0101 00 0101 00", Duplicate},
		{"0 and -0 in a set", "0c 02 04 0000000000000000 04 8000000000000000", Duplicate},
		{"too deep", "0e01" + deep, TooDeep},
		{"50,000 deep", strings.Repeat("0e01", 50_000) + "00", TooDeep},
	} {
		_, err := Parse(unhex(t, c.b))
		if got, ok := errors.AsType[*Error](err); !ok || got.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	one := func(shape any) []byte {
		b, err := Append(nil, shape)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := uint64(1)
	for name, b := range map[string][]byte{
		"no vector":             one("x"),
		"two elements":          one(Vector{n, n}),
		"four elements":         one(Vector{n, n, Vector{"e", Vector{}}, n}),
		"another version":       one(Vector{uint64(2), n, Vector{"e", Vector{}}}),
		"another message type":  one(Vector{n, uint64(5), Vector{"e", Vector{}}}),
		"no arguments":          one(Vector{n, n, Vector{"e"}}),
		"arguments of a set":    one(Vector{n, n, Vector{"e", Set{}}}),
		"an empty name":         one(Vector{n, n, Vector{"", Vector{}}}),
		"a name that is a enum": one(Vector{n, n, Vector{Enum("e"), Vector{}}}),
		"four inner elements":   one(Vector{n, n, Vector{"e", Vector{}, Vector{}, n}}),
		"metadata of a count":   one(Vector{n, n, Vector{"e", Vector{}, n}}),
		"metadata of one":       one(Vector{n, n, Vector{"e", Vector{}, Vector{Vector{n}}}}),
		"metadata of three":     one(Vector{n, n, Vector{"e", Vector{}, Vector{Vector{n, n, n}}}}),
		"metadata without id":   one(Vector{n, n, Vector{"e", Vector{}, Vector{Vector{"x", n}}}}),
	} {
		_, err := ParseEvent(b)
		if got, ok := errors.AsType[*Error](err); !ok || got.Reason != BadShape {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, v := range map[string]any{
		"no address":      netip.Addr{},
		"a zone":          netip.MustParseAddr("fe80::1%eth0"),
		"no prefix":       netip.Prefix{},
		"a protocol 4":    Port{1, 4},
		"the year 1":      time.Time{},
		"a channel":       make(chan int),
		"a function":      TestRefused,
		"twice in a set":  Set{n, n},
		"a key twice":     Table{{n, n}, {n, n}},
		"a complex":       1i,
		"nested too deep": nested(MaxDepth + 1),
		"a bad tag": struct {
			A int `zeek:",enum"`
		}{},
	} {
		if b, err := Append([]byte("before"), v); err == nil || string(b) != "before" {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
}

func nested(depth int) any {
	if depth == 0 {
		return nil
	}
	return Vector{nested(depth - 1)}
}

// values generates values of all kinds, with the Go types that Raw.Value gives them.
func values(depth int) *rapid.Generator[any] {
	simple := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(), rapid.Uint64().AsAny(), rapid.Int64().AsAny(),
		rapid.Custom(func(t *rapid.T) any {
			v := rapid.Float64().Draw(t, "real")
			if math.Abs(v) < 0x1p-1022 {
				return 0.0
			}
			return v
		}),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return string(b) }),
		rapid.Map(rapid.StringMatching(`[A-Z][a-z]*::[A-Z_]+`),
			func(s string) any { return Enum(s) }),
		rapid.Custom(func(t *rapid.T) any { return addr(t) }),
		rapid.Custom(func(t *rapid.T) any {
			a := addr(t)
			p, _ := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			if p.Addr().Is6() && p.Addr().Is4In6() {
				return netip.MustParsePrefix("::/0")
			}
			return p
		}),
		rapid.Custom(func(t *rapid.T) any {
			return Port{rapid.Uint16().Draw(t, "port"),
				Proto(rapid.IntRange(0, 3).Draw(t, "proto"))}
		}),
		rapid.Custom(func(t *rapid.T) any {
			return time.Unix(0,
				rapid.Int64().Draw(t, "ns")).UTC()
		}),
		rapid.Custom(func(t *rapid.T) any { return time.Duration(rapid.Int64().Draw(t, "ns")) }),
	}
	if depth == 0 {
		return rapid.OneOf(simple...)
	}
	return rapid.Deferred(func() *rapid.Generator[any] {
		element := values(depth - 1)
		list := rapid.SliceOfN(element, 0, 5)
		distinct := rapid.SliceOfNDistinct(element, 0, 5, func(v any) string {
			b, err := Append(nil, v)
			if err != nil {
				panic(err)
			}
			if v == 0.0 { // 0 and -0
				b[1] = 0
			}
			return string(b)
		})
		return rapid.OneOf(append(simple,
			rapid.Map(list, func(l []any) any { return Vector(l) }),
			rapid.Map(distinct, func(l []any) any { return Set(l) }),
			rapid.Custom(func(t *rapid.T) any {
				table := Table{}
				for _, key := range distinct.Draw(t, "keys") {
					table = append(table, Entry{key, element.Draw(t, "value")})
				}
				return table
			}))...)
	})
}

func addr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv4") {
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
	}
	return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))).Unmap()
}

// TestRoundTrip: any value is the same after both formats, but for what JSON loses.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "value")
		b, err := Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if again, err := Append(nil, r.Value()); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("again: %v\n%x\n%x", err, again, b)
		}
		var decoded any
		if err := r.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		if again, err := Append(nil, &decoded); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("decoded: %v\n%x\n%x", err, again, b)
		}
		json := AppendJSON(nil, r)
		from, err := ParseJSON([]byte("before"), json)
		if has(r, Real, Timestamp) {
			if err != nil && err.(*Error).Reason != Duplicate {
				t.Fatalf("%s: %v", json, err)
			}
			return
		}
		if err != nil || string(from) != "before"+string(b) {
			t.Fatalf("%s: %v\n%x\n%x", json, err, from, b)
		}
	})
}

// TestOrder: the order of values is one: a total order that does not depend on how a set was made.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		encode := func(name string) []byte {
			b, err := Append(nil, values(2).Draw(t, name))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		a, b, c := encode("a"), encode("b"), encode("c")
		if compare(a, b) != -compare(b, a) {
			if x, y := compare(a, b), compare(b, a); (x < 0) == (y < 0) || x == 0 || y == 0 {
				t.Fatalf("%x and %x: %d and %d", a, b, x, y)
			}
		}
		if compare(a, b) <= 0 && compare(b, c) <= 0 && compare(a, c) > 0 {
			t.Fatalf("%x, %x, %x", a, b, c)
		}
		if compare(a, a) != 0 {
			t.Fatalf("%x differs from itself", a)
		}
	})
}

type leaf struct {
	A uint64
	B *string
}

type all struct {
	Bool     bool
	Int      int32
	Count    uint16
	Double   float64
	Time     time.Time
	Interval time.Duration
	Text     string
	Bytes    []byte
	Port     Port
	Addr     netip.Addr
	Subnet   netip.Prefix
	Color    Enum
	Label    string `zeek:"label,enum"`
	Set      map[string]struct{}
	Ports    []uint64 `zeek:",set"`
	Index    map[struct {
		Host netip.Addr
		Port Port
	}][]leaf
	Optional string `zeek:",optional"`
	Any      any
	Hidden   int `zeek:"-"`
	hidden   int
	Fixed    [2]bool
	Leaf     leaf
}

// TestStruct: a record comes back as it was.
func TestStruct(t *testing.T) {
	text := "text"
	v := all{
		Bool: true, Int: -5, Count: 65535, Double: 0.1, Time: time.Unix(1700000000, 5).UTC(),
		Interval: -time.Second, Text: "a\x00b", Bytes: []byte{255}, Port: Port{80, ProtoTCP},
		Addr: netip.MustParseAddr("2001:db8::1"), Subnet: netip.MustParsePrefix("10.0.0.0/8"),
		Color: "Edge::RED", Label: "Edge::GREEN", Set: map[string]struct{}{"x": {}},
		Ports: []uint64{1, 2, 300}, Any: uint64(5), Fixed: [2]bool{true, false},
		Leaf: leaf{1, &text},
		Index: map[struct {
			Host netip.Addr
			Port Port
		}][]leaf{{netip.MustParseAddr("10.0.0.1"), Port{53, ProtoUDP}}: {{2, nil}}},
	}
	b, err := Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Len(); n != 20 {
		t.Errorf("the record has %d fields", n)
	}
	got := all{Hidden: 1, hidden: 2}
	if err := r.Decode(&got); err != nil {
		t.Fatal(err)
	}
	v.Hidden, v.hidden = 1, 2
	if !reflect.DeepEqual(got, v) {
		t.Errorf("%+v\n%+v", got, v)
	}
}

// TestMismatch: what has another type in Zeek is not converted, and what does not fit is an error.
func TestMismatch(t *testing.T) {
	for _, c := range []struct {
		value, dst any
		want       string
	}{
		{uint64(1), new(int64), "type count does not fit into a int64"},
		{int64(1), new(uint64), "type integer does not fit into a uint64"},
		{uint64(256), new(uint8), "the count 256 is too large for a uint8"},
		{int64(128), new(int8), "the int 128 is too large for a int8"},
		{1e300, new(float32), "is too large for a float32"},
		{"x", new(Enum), "type string does not fit into a event.Enum"},
		{Enum("x"), new(string), "type enum-value does not fit into a string"},
		{"x", new(netip.Addr), "type string does not fit"},
		{Vector{}, new(Set), "type vector does not fit"},
		{Set{}, new([]string), "type set does not fit"},
		{Vector{true}, new([2]bool), "a vector of 1 does not fit"},
		{Vector{uint64(1)}, new(leaf),
			"a record of 1 fields does not fit into a event.leaf, which has 2"},
		{Vector{"x", nil}, new(leaf), "in field leaf.A"},
		{nil, new(uint64), "type none does not fit"},
		{Set{Vector{}}, new(map[any]struct{}), "type vector does not fit"},
	} {
		b, err := Append(nil, c.value)
		if err != nil {
			t.Fatal(err)
		}
		if err := Raw(b).Decode(c.dst); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v into %T: %v, want %s", c.value, c.dst, err, c.want)
		}
	}
	if err := (Raw{}).Decode(leaf{}); err == nil {
		t.Error("Decode takes what is no pointer")
	}
	var l leaf
	b, _ := Append(nil, Vector{uint64(7), nil, "more than there are fields"})
	if err := Raw(b).Decode(&l); err != nil || l.A != 7 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestRealsOfOthers: patterns of doubles that Zeek reads in its own way.
func TestRealsOfOthers(t *testing.T) {
	for bits, want := range map[uint64]float64{
		math.Float64bits(math.NaN()): math.Inf(1), // Go's
		0xfff8000000000000:           math.Inf(-1),
		1:                            0x1p-1023,
		0xfcd0000000000000:           -1.596672247627776e293,
	} {
		if got := unpackReal(bits); math.Abs(got/want-1) > 1e-15 && got != want {
			t.Errorf("%#x: %v, want %v", bits, got, want)
		}
	}
}
