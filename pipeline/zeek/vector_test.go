package zeek

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectorTest is the batch of the round-trip test of Zeek's own serializer.
const vectorTest = `
	0000000c4c6f673a3a554e4b4e4f574e000000104c6f673a3a5752495445525f4e4f4e450000000764656661756c74
	000000076d792d70617468000000010000000002747300000005000000160000000002
	0000000500000016013ff0000000000000
	0000000500000016014000000000000000`

// vectorWeird is a batch with seven types.
const vectorWeird = `
	0000000a57656972643a3a4c4f47000000114c6f673a3a5752495445525f41534349490000000764656661756c740000000577656972640000000700
	0000000274730000000500000000000000000003756964000000070000000001000000000969642e6f7269675f680000000b0000000001000000
	000969642e6f7269675f700000000a000000000100000000036e65740000000c000000000100000000056e616d65730000000e00000007010000
	000004727474730000001300000004010000000100000005000000000141d954fc402000000000000700000000000000000b0000000001040a01
	02030000000a00000000010000000000000035000000020000000c000000000178040a0102000000000e00000000010000000000000001000000
	07000000000100000003782c790000001300000000010000000000000002000000040000000001
	3fe00000000000000000000400000000014008000000000000`

func weirdSchema() *Schema {
	return &Schema{
		Stream: "Weird::LOG", Writer: "Log::WRITER_ASCII", Filter: "default", Path: "weird",
		Fields: []Field{
			{"ts", TypeTime, TypeVoid, false},
			{"uid", TypeString, TypeVoid, true},
			{"id.orig_h", TypeAddr, TypeVoid, true},
			{"id.orig_p", TypePort, TypeVoid, true},
			{"net", TypeSubnet, TypeVoid, true},
			{"names", TypeSet, TypeString, true},
			{"rtts", TypeVector, TypeDouble, true},
		},
	}
}

func weirdRecord() []Value {
	return []Value{
		Time(1700000000.5),
		Unset(TypeString),
		Addr(netip.MustParseAddr("10.1.2.3")),
		Port(53, ProtoUDP),
		Subnet(netip.MustParsePrefix("10.1.2.0/24")),
		Set(String("x,y")),
		Vector(Double(0.5), Double(3)),
	}
}

func render(t testing.TB, raw []byte, o Options) string {
	t.Helper()
	b, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := mustRenderer(t, raw, o).AppendRecords(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestVectorTest(t *testing.T) {
	raw := unhex(t, vectorTest)
	if len(raw) != 116 {
		t.Fatalf("%d bytes", len(raw))
	}
	b, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSchema(b.Header)
	if err != nil {
		t.Fatal(err)
	}
	want := &Schema{"Log::UNKNOWN", "Log::WRITER_NONE", "default", "my-path",
		[]Field{{"ts", TypeTime, Type(22), false}}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("schema %+v, want %+v", s, want)
	}
	records, err := DecodeRecords(b, s)
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]Value{{Time(1)}, {Time(2)}}; !reflect.DeepEqual(records, want) {
		t.Errorf("records %v, want %v", records, want)
	}
	// The values of the vector have the subtype 22. Nodes and AppendBatch send 0 instead.
	encoded, err := AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) != len(raw) {
		t.Fatalf("encoded in %d bytes, want %d", len(encoded), len(raw))
	}
	for _, subtype := range []int{len(raw) - 17 - 17 + 4, len(raw) - 17 + 4} {
		encoded[subtype+3] = 22
	}
	if !bytes.Equal(encoded, raw) {
		t.Errorf("encoded %x\nwant    %x", encoded, raw)
	}
}

func TestVectorWeird(t *testing.T) {
	raw := unhex(t, vectorWeird)
	if len(raw) != 356 {
		t.Fatalf("%d bytes", len(raw))
	}
	encoded, err := AppendBatch([]byte("kept"), weirdSchema(), [][]Value{weirdRecord()})
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("kept"), raw...); !bytes.Equal(encoded, want) {
		t.Errorf("encoded %x\nwant    %x", encoded, want)
	}
	b, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	records, err := DecodeRecords(b, weirdSchema())
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]Value{weirdRecord()}; !reflect.DeepEqual(records, want) {
		t.Errorf("records %v, want %v", records, want)
	}
	const (
		tsv  = "1700000000.500000\t-\t10.1.2.3\t53\t10.1.2.0/24\tx\\x2cy\t0.5,3.0\n"
		json = `{"ts":1700000000.5,"id.orig_h":"10.1.2.3","id.orig_p":53,"net":"10.1.2.0/24","names":["x,y"],"rtts":[0.5,3.0]}` + "\n"
	)
	if got := render(t, raw, DefaultOptions()); got != tsv {
		t.Errorf("TSV %q, want %q", got, tsv)
	}
	o := DefaultOptions()
	o.UseJSON = true
	if got := render(t, raw, o); got != json {
		t.Errorf("JSON %s, want %s", got, json)
	}
	trailing := append(bytes.Clone(raw), "more"...)
	if got := render(t, trailing, DefaultOptions()); got != tsv {
		t.Errorf("TSV %q with trailing bytes, want %q", got, tsv)
	}
}

func TestAppendBatchRefuses(t *testing.T) {
	field := func(f Field) *Schema {
		return &Schema{Stream: "S::LOG", Writer: "W", Fields: []Field{f}}
	}
	count := field(Field{Name: "x", Type: TypeCount})
	for _, c := range []struct {
		name   string
		schema *Schema
		record []Value
		want   string
	}{
		{"stream", &Schema{Writer: "W", Fields: count.Fields}, []Value{Count(1)}, "full names"},
		{"fields", &Schema{Stream: "S", Writer: "W"}, nil, "at least one field"},
		{"field name", field(Field{Name: "a\nb", Type: TypeCount}), []Value{Count(1)}, `"a\nb"`},
		{"field type", field(Field{Name: "x", Type: TypeSet}), []Value{Set()},
			"set[void] cannot be logged"},
		{"columns", count, []Value{Count(1), Count(2)}, "record 0 has 2 values"},
		{"type", count, []Value{Int(1)}, `field "x": a value of type int instead of count`},
		{"zero Value", count, []Value{{}}, "void instead of count"},
		{"element", field(Field{Name: "x", Type: TypeSet, Subtype: TypeCount}),
			[]Value{Set(Count(1), Int(2))}, "element 1 is of type int"},
		{"protocol", field(Field{Name: "x", Type: TypePort}), []Value{Port(1, 4)}, "protocol 4"},
		{"address", field(Field{Name: "x", Type: TypeAddr}), []Value{Addr(netip.Addr{})},
			"invalid IP"},
		{"zone", field(Field{Name: "x", Type: TypeAddr}),
			[]Value{Addr(netip.MustParseAddr("fe80::1%eth0"))}, "without zone"},
		{"prefix", field(Field{Name: "x", Type: TypeSubnet}), []Value{Subnet(netip.Prefix{})},
			"invalid IP"},
	} {
		out, err := AppendBatch([]byte("kept"), c.schema, [][]Value{c.record})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		if string(out) != "kept" {
			t.Errorf("%s: output %q beside the error", c.name, out)
		}
	}
}
