package zeek

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectorTest is the batch of the round-trip test in Zeek's own serializer.
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
	want := &Schema{"Log::UNKNOWN", "Log::WRITER_NONE", "default", "my-path", []Field{{"ts", TypeTime, Type(22), false}}}
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
	// The vector's values have the subtype 22, where nodes and AppendBatch send 0.
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

// header returns the raw header of a batch with one column of this type.
func header(typ, subtype Type) []byte {
	h := appendText(nil, "Test::LOG")
	h = appendText(h, "Log::WRITER_ASCII")
	h = appendText(h, "default")
	h = appendText(h, "test")
	h = binary.BigEndian.AppendUint32(h, 1)
	h = appendText(append(h, 0), "x")
	h = binary.BigEndian.AppendUint32(h, uint32(typ))
	h = binary.BigEndian.AppendUint32(h, uint32(subtype))
	return append(h, 0)
}

// oneValue returns a batch of one record with one column, the value given in hex.
func oneValue(t testing.TB, typ, subtype Type, value string) []byte {
	return append(append(header(typ, subtype), 0, 0, 0, 1), unhex(t, value)...)
}

// TestValueVectors has the values of Zeek's unit tests, and more.
func TestValueVectors(t *testing.T) {
	for _, c := range []struct {
		typ, subtype Type
		value        string
		want         string // TSV
		json         string
	}{
		{TypeAddr, 0, "0000000b 00000016 01 04 01020304", "1.2.3.4", `"1.2.3.4"`},
		{TypeAddr, 0, "0000000b 00000016 01 06 0102030405060708090a0b0c0d0e0f10", "102:304:506:708:90a:b0c:d0e:f10", `"102:304:506:708:90a:b0c:d0e:f10"`},
		{TypeSubnet, 0, "0000000c 00000016 01 70 04 01020000", "1.2.0.0/16", `"1.2.0.0/16"`},
		{TypeSubnet, 0, "0000000c 00000016 01 40 06 0102030405060708 0000000000000000", "102:304:506:708::/64", `"102:304:506:708::/64"`},
		{TypeSet, TypeBool, "0000000e 000000ff 01 0000000000000000", "(empty)", `[]`},
		{TypeSet, TypeBool, `0000000e 00000001 01 0000000000000002 00000001 00000000 01 0000000000000001
			00000001 00000000 01 0000000000000000`, "T,F", `[true,false]`},
		{TypeVector, TypeBool, `00000013 000000ff 01 0000000000000002 00000001 00000000 01 0000000000000001
			00000001 00000000 01 0000000000000000`, "T,F", `[true,false]`},
		{TypeString, 0, "00000007 00000016 01 00000004 41424344", "ABCD", `"ABCD"`},
		{TypeVector, TypeInterval, `00000013 00000000 01 0000000000000002 00000006 00000000 00
			00000006 00000000 01 3fd0000000000000`, "-,0.250000", `[null,0.25]`},
		{TypeCount, 0, "00000003 00000000 01 ffffffffffffffff", "18446744073709551615", `18446744073709551615`},
		{TypeInt, 0, "00000002 00000000 01 fffffffffffffffb", "-5", `-5`},
		{TypeString, 0, "00000007 00000000 01 00000000", "(empty)", `""`},
		{TypeFunc, 0, "00000011 00000000 01 00000003 666f6f", "foo", `"foo"`},
		{TypeEnum, 0, "00000009 00000000 01 00000012 4e6f746963653a3a414354494f4e5f4c4f47", "Notice::ACTION_LOG", `"Notice::ACTION_LOG"`},

		// Elements are rendered by their own type, holes whatever they claim to be.
		{TypeVector, TypeString, `00000013 00000000 01 0000000000000003 00000003 00000000 01 0000000000000007
			00000007 00000000 01 00000001 61 00000013 00000000 00`, "7,a,-", `[7,"a",null]`},
		// Any bool but 0 is true, any presence but 1 is unset.
		{TypeBool, 0, "00000001 00000000 01 0000000000000200", "T", `true`},
		{TypeBool, 0, "00000001 00000000 02", "-", ``},
		// Numbers that no port or prefix has.
		{TypePort, 0, "0000000a 00000000 01 ffffffffffffffff 00000003", "18446744073709551615", `18446744073709551615`},
		{TypeSubnet, 0, "0000000c 00000000 01 5f 04 01020304", "1.2.3.4/-1", `"1.2.3.4/-1"`},
		{TypeSubnet, 0, "0000000c 00000000 01 ff 04 01020304", "1.2.3.4/159", `"1.2.3.4/159"`},
		{TypeSubnet, 0, "0000000c 00000000 01 ff 06 00000000000000000000000000000001", "::1/255", `"::1/255"`},
	} {
		raw := oneValue(t, c.typ, c.subtype, c.value)
		if got := render(t, raw, DefaultOptions()); got != c.want+"\n" {
			t.Errorf("%s: TSV %q, want %q", c.value, got, c.want)
		}
		want := `{"x":` + c.json + "}\n"
		if c.json == "" {
			want = "{}\n"
		}
		o := DefaultOptions()
		o.UseJSON = true
		if got := render(t, raw, o); got != want {
			t.Errorf("%s: JSON %q, want %q", c.value, got, want)
		}
	}
}

// refuse runs a batch through every way of reading it and returns the error, which must
// be the same everywhere.
func refuse(t testing.TB, raw []byte) *Error {
	t.Helper()
	b, err := ParseBatch(raw)
	if err != nil {
		return asError(t, err)
	}
	s, err := ParseSchema(b.Header)
	if err != nil {
		t.Fatalf("ParseBatch accepts a header that ParseSchema refuses: %v", err)
	}
	records, err := DecodeRecords(b, s)
	if err == nil {
		return nil
	}
	if records != nil {
		t.Errorf("records and an error")
	}
	refusal := asError(t, err)
	for _, config := range []string{"tsv", "json"} {
		o := DefaultOptions()
		configs[config](&o)
		out, n, err := mustRenderer(t, raw, o).AppendRecords([]byte("kept"), b)
		if string(out) != "kept" || n != 0 {
			t.Errorf("%s: output %q, %d records beside the error", config, out, n)
		}
		if other := asError(t, err); *other != *refusal {
			t.Errorf("%s: %v, decoding: %v", config, other, refusal)
		}
	}
	return refusal
}

func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not an *Error", err)
	}
	return e
}

func TestRefusedValues(t *testing.T) {
	for _, c := range []struct {
		typ, subtype Type
		value        string
		reason       Reason
		offset       int // within the value
	}{
		{TypeAddr, 0, "0000000b 00000016 01 03 01020304", ReasonBadValue, 0},
		{TypeSubnet, 0, "0000000c 00000016 01 70 03 01020304", ReasonBadValue, 0},
		{TypePort, 0, "0000000a 00000000 01 0000000000000035 00000004", ReasonBadValue, 0},
		{TypePort, 0, "0000000a 00000000 01 0000000000000035 ffffffff", ReasonBadValue, 0},
		{TypeCount, 0, "000000ff 00000016 01 0000000000000000", ReasonTypeMismatch, 0},
		{TypeCount, 0, "00000002 00000000 01 0000000000000000", ReasonTypeMismatch, 0},
		{TypeCount, 0, "00000007 00000000 00", ReasonTypeMismatch, 0},
		{TypeString, 0, "00000007 00000016 01 ffffffff 41424344", ReasonBadLength, 0},
		{TypeString, 0, "00000007 00000016 01 80000000 41424344", ReasonBadLength, 0},
		{TypeString, 0, "00000007 00000016 01 000000ff 41424344", ReasonTruncated, 0},
		{TypeString, 0, "00000007 00000016 01 7fffffff 41424344", ReasonTruncated, 0},
		{TypeSet, TypeBool, "0000000e 00000000 01 ffffffffffffffff", ReasonBadCount, 0},
		{TypeSet, TypeBool, "0000000e 00000000 01 7fffffffffffffff 00000001 00000000 00", ReasonBadCount, 0},
		{TypeVector, TypeBool, "00000013 00000000 01 0000000000000002 00000001 00000000 00", ReasonBadCount, 0},
		{TypeSet, TypeBool, "0000000e 00000001 01 0000000000000001 00000001 00000000 01 00000000", ReasonTruncated, 17},
		{TypeSet, TypeBool, "0000000e 00000001 01 0000000000000001 00000008 00000000 01 00000000", ReasonBadType, 17},
		{TypeVector, TypeCount, "00000013 00000000 01 0000000000000001 00000013 00000000 01 0000000000000000", ReasonNesting, 17},
		{TypeVector, TypeCount, "00000013 00000000 01 0000000000000001 0000000e 00000000 01 0000000000000000", ReasonNesting, 17},
	} {
		raw := oneValue(t, c.typ, c.subtype, c.value)
		e := refuse(t, raw)
		if e == nil {
			t.Errorf("%s: accepted", c.value)
			continue
		}
		offset := len(header(c.typ, c.subtype)) + 4 + c.offset
		if e.Reason != c.reason || e.Record != 0 || e.Field != "x" || e.Offset != offset {
			t.Errorf("%s: %v; want %s, field x of record 0 at byte %d", c.value, e, c.reason, offset)
		}
	}
}

func TestRefusedHeaders(t *testing.T) {
	strs := func(s ...string) (b []byte) {
		for _, s := range s {
			b = appendText(b, s)
		}
		return b
	}
	start := strs("S::LOG", "W", "f", "p")
	be := binary.BigEndian.AppendUint32
	oneField := header(TypeCount, 0)[len(header(TypeCount, 0))-(1+5+4+4+1):]
	twoFields := append(bytes.Clone(oneField), oneField...)
	for _, c := range []struct {
		name   string
		raw    []byte
		reason Reason
	}{
		{"nothing", nil, ReasonTruncated},
		{"no stream", strs("", "W", "f", "p"), ReasonBadName},
		{"no writer", strs("S", "", "f", "p"), ReasonBadName},
		{"negative length", be(nil, 0xffffffff), ReasonBadLength},
		{"length of 2 GiB", be(nil, 0x7fffffff), ReasonTruncated},
		{"no fields", be(be(start, 0), 0), ReasonBadCount},
		{"no fields, many records", be(be(start, 0), math.MaxUint32), ReasonBadCount},
		{"2^31 fields", append(be(start, 1<<31), make([]byte, 100)...), ReasonBadCount},
		{"8 fields in the room of 7", append(be(start, 8), make([]byte, 8*14-1)...), ReasonBadCount},
		{"2^32-1 records", append(be(header(TypeCount, 0), math.MaxUint32), make([]byte, 100)...), ReasonBadCount},
		{"2 records in the room of 1", append(be(header(TypeCount, 0), 2), make([]byte, 17)...), ReasonBadCount},
		{"2 records of 2 in the room of 3", append(append(append(be(start, 2), twoFields...), 0, 0, 0, 2), make([]byte, 3*9)...), ReasonBadCount},
		{"pattern", append(header(8, 0), 0, 0, 0, 0), ReasonBadType},
		{"record", append(header(15, 0), 0, 0, 0, 0), ReasonBadType},
		{"negative type", append(header(-1, 0), 0, 0, 0, 0), ReasonBadType},
		{"void", append(header(TypeVoid, 0), 0, 0, 0, 0), ReasonBadType},
		{"set of nothing", append(header(TypeSet, TypeVoid), 0, 0, 0, 0), ReasonBadType},
		{"set of vectors", append(header(TypeSet, TypeVector), 0, 0, 0, 0), ReasonBadType},
		{"field without name", append(be(start, 1), make([]byte, 14)...), ReasonBadName},
		{"field named with a line feed", bytes.Replace(append(header(TypeCount, 0), 0, 0, 0, 0), []byte("\x00\x00\x00\x01x"), []byte("\x00\x00\x00\x01\n"), 1), ReasonBadName},
	} {
		e := refuse(t, c.raw)
		if e == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if e.Reason != c.reason || e.Record != -1 {
			t.Errorf("%s: %v, want %s in the header", c.name, e, c.reason)
		}
	}
}

// TestSecondaryName: only 01 announces one, as in Zeek.
func TestSecondaryName(t *testing.T) {
	raw := append(header(TypeCount, 0), 0, 0, 0, 0)
	at := bytes.Index(raw, []byte("\x00\x00\x00\x00\x01x"))
	with := append(append(bytes.Clone(raw[:at]), 1), appendText(nil, "second")...)
	with = append(with, raw[at+1:]...)
	for _, raw := range [][]byte{raw, with} {
		b, err := ParseBatch(raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSchema(b.Header)
		if err != nil {
			t.Fatal(err)
		}
		if want := []Field{{Name: "x", Type: TypeCount}}; !reflect.DeepEqual(s.Fields, want) {
			t.Errorf("fields %v, want %v", s.Fields, want)
		}
	}
	raw[at] = 2
	if _, err := ParseBatch(raw); err != nil {
		t.Errorf("with 02 for the presence of a secondary name: %v", err)
	}
}

// TestTruncated cuts recorded batches at every byte.
func TestTruncated(t *testing.T) {
	seen := make(map[Reason]int)
	paths := make(map[string]bool)
	for _, name := range []string{"edge-logs", "cluster-logs"} {
		for _, raw := range recordedBatches(t, name) {
			b, err := ParseBatch(raw)
			if err != nil {
				t.Fatal(err)
			}
			if paths[string(b.Path)] || len(raw) > 4000 {
				continue
			}
			paths[string(b.Path)] = true
			for n := range len(raw) {
				e := refuse(t, raw[:n:n])
				if e == nil {
					t.Fatalf("%s: %d of %d bytes are accepted", b.Path, n, len(raw))
				}
				if e.Offset > n || e.Reason != ReasonTruncated && e.Reason != ReasonBadCount {
					t.Fatalf("%s: %d of %d bytes: %v", b.Path, n, len(raw), e)
				}
				seen[e.Reason]++
			}
			if e := refuse(t, raw); e != nil {
				t.Fatal(e)
			}
		}
	}
	if len(paths) < 20 || len(seen) != 2 {
		t.Errorf("%d paths, %v", len(paths), seen)
	}
}

func TestErrorText(t *testing.T) {
	raw := oneValue(t, TypeCount, 0, "00000007 00000000 01 00000000 0000")
	const want = `zeek: log batch refused, type_mismatch: the value does not have the type of its field ` +
		`(string instead of count), at byte 76, record 0, field "x"`
	if got := refuse(t, raw).Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestReasons(t *testing.T) {
	labels := make(map[string]bool)
	for _, r := range Reasons() {
		if label := r.String(); label == "" || labels[label] || strings.ToLower(label) != label || reasonTexts[r].text == "" {
			t.Errorf("reason %d: label %q", r, label)
		}
		labels[r.String()] = true
	}
	if len(labels) != len(reasonTexts)-1 {
		t.Errorf("%d labels for %d reasons", len(labels), len(reasonTexts)-1)
	}
	if got := Reason(200).String(); got != "reason_200" {
		t.Errorf("unknown reason: %q", got)
	}
	_ = (&Error{Reason: 200}).Error() // does not panic
}

// TestAllocations: none per batch or record, in either format.
func TestAllocations(t *testing.T) {
	for _, path := range []string{"conn", "http"} {
		raw, _ := recordedPath(t, path)
		for _, config := range []string{"tsv", "json", "json-iso8601"} {
			o := DefaultOptions()
			configs[config](&o)
			r := mustRenderer(t, raw, o)
			var buf []byte
			allocs := testing.AllocsPerRun(10, func() {
				b, err := ParseBatch(raw)
				if err != nil {
					t.Fatal(err)
				}
				if buf, _, err = r.AppendRecords(buf[:0], b); err != nil {
					t.Fatal(err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s, %s: %v allocations a batch", path, config, allocs)
			}
		}
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
		{"field type", field(Field{Name: "x", Type: TypeSet}), []Value{Set()}, "set[void] cannot be logged"},
		{"columns", count, []Value{Count(1), Count(2)}, "record 0 has 2 values"},
		{"type", count, []Value{Int(1)}, `field "x": a value of type int instead of count`},
		{"zero Value", count, []Value{{}}, "void instead of count"},
		{"element", field(Field{Name: "x", Type: TypeSet, Subtype: TypeCount}), []Value{Set(Count(1), Int(2))}, "element 1 is of type int"},
		{"protocol", field(Field{Name: "x", Type: TypePort}), []Value{Port(1, 4)}, "protocol 4"},
		{"address", field(Field{Name: "x", Type: TypeAddr}), []Value{Addr(netip.Addr{})}, "invalid IP"},
		{"zone", field(Field{Name: "x", Type: TypeAddr}), []Value{Addr(netip.MustParseAddr("fe80::1%eth0"))}, "without zone"},
		{"prefix", field(Field{Name: "x", Type: TypeSubnet}), []Value{Subnet(netip.Prefix{})}, "invalid IP"},
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

func TestSchemaMismatch(t *testing.T) {
	raw := unhex(t, vectorWeird)
	b, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(s *Schema)) *Schema {
		s := weirdSchema()
		f(s)
		return s
	}
	for _, c := range []struct {
		name   string
		schema *Schema
		ok     bool
	}{
		{"same", weirdSchema(), true},
		{"other filter", change(func(s *Schema) { s.Filter = "other" }), true},
		{"optional", change(func(s *Schema) { s.Fields[0].Optional = true }), true},
		{"name", change(func(s *Schema) { s.Fields[0].Name = "t" }), false},
		{"type", change(func(s *Schema) { s.Fields[0].Type = TypeInterval }), false},
		{"subtype", change(func(s *Schema) { s.Fields[5].Subtype = TypeEnum }), false},
		{"fewer", change(func(s *Schema) { s.Fields = s.Fields[:6] }), false},
	} {
		r, err := NewRenderer(c.schema, DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from what the first has left
			out, n, err := r.AppendRecords([]byte("kept"), b)
			if c.ok {
				if err != nil || n != 1 {
					t.Errorf("%s: %d records, %v", c.name, n, err)
				}
				continue
			}
			if e := asError(t, err); e.Reason != ReasonSchemaMismatch || n != 0 || string(out) != "kept" {
				t.Errorf("%s: %v, %d records, output %q", c.name, err, n, out)
			}
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(o *Options)
	}{
		{"separator is empty", func(o *Options) { o.Separator = "" }},
		{"set_separator is empty", func(o *Options) { o.SetSeparator = "" }},
		{"json_timestamps", func(o *Options) { o.JSONTimestamps = 4 }},
		{"json_string_escape_policy", func(o *Options) { o.JSONStringEscapePolicy = 3 }},
	} {
		o := DefaultOptions()
		c.set(&o)
		if _, err := NewRenderer(weirdSchema(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
	}
	if _, err := NewRenderer(&Schema{}, DefaultOptions()); err == nil {
		t.Error("a schema without anything is accepted")
	}
}

// TestHeaderTimes: #open and #close are in the location of the time.
func TestHeaderTimes(t *testing.T) {
	r, err := NewRenderer(weirdSchema(), DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 3, 7, 23, 0, 0, 0, time.UTC).In(time.FixedZone("", 2*3600))
	if got := string(r.AppendHeader(nil, at)); !strings.Contains(got, "\n#open\t2024-03-08-01-00-00\n") {
		t.Errorf("header %q", got)
	}
	if got, want := string(r.AppendFooter(nil, at)), "#close\t2024-03-08-01-00-00\n"; got != want {
		t.Errorf("footer %q, want %q", got, want)
	}
}
