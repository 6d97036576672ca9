package zeek

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// header returns the raw header of a batch with one column of the given type.
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

// oneValue returns a batch of one record with one column. The value is in hexadecimal.
func oneValue(t testing.TB, typ, subtype Type, value string) []byte {
	return append(append(header(typ, subtype), 0, 0, 0, 1), unhex(t, value)...)
}

// The values come from Zeek's unit tests, and more.
func TestValueVectors(t *testing.T) {
	for _, c := range []struct {
		typ, subtype Type
		value        string
		want         string // TSV
		json         string
	}{
		{TypeAddr, 0, "0000000b 00000016 01 04 01020304", "1.2.3.4", `"1.2.3.4"`},
		{TypeAddr, 0, "0000000b 00000016 01 06 0102030405060708090a0b0c0d0e0f10",
			"102:304:506:708:90a:b0c:d0e:f10", `"102:304:506:708:90a:b0c:d0e:f10"`},
		{TypeSubnet, 0, "0000000c 00000016 01 70 04 01020000", "1.2.0.0/16", `"1.2.0.0/16"`},
		{TypeSubnet, 0, "0000000c 00000016 01 40 06 0102030405060708 0000000000000000",
			"102:304:506:708::/64", `"102:304:506:708::/64"`},
		{TypeSet, TypeBool, "0000000e 000000ff 01 0000000000000000", "(empty)", `[]`},
		{TypeSet, TypeBool, `0000000e 00000001 01 0000000000000002 00000001 00000000 01 0000000000000001
			00000001 00000000 01 0000000000000000`, "T,F", `[true,false]`},
		{TypeVector, TypeBool, `00000013 000000ff 01 0000000000000002 00000001 00000000 01 0000000000000001
			00000001 00000000 01 0000000000000000`, "T,F", `[true,false]`},
		{TypeString, 0, "00000007 00000016 01 00000004 41424344", "ABCD", `"ABCD"`},
		{TypeVector, TypeInterval, `00000013 00000000 01 0000000000000002 00000006 00000000 00
			00000006 00000000 01 3fd0000000000000`, "-,0.250000", `[null,0.25]`},
		{TypeCount, 0, "00000003 00000000 01 ffffffffffffffff", "18446744073709551615",
			`18446744073709551615`},
		{TypeInt, 0, "00000002 00000000 01 fffffffffffffffb", "-5", `-5`},
		{TypeString, 0, "00000007 00000000 01 00000000", "(empty)", `""`},
		{TypeFunc, 0, "00000011 00000000 01 00000003 666f6f", "foo", `"foo"`},
		{TypeEnum, 0, "00000009 00000000 01 00000012 4e6f746963653a3a414354494f4e5f4c4f47",
			"Notice::ACTION_LOG", `"Notice::ACTION_LOG"`},

		// Elements are rendered by their own type. An unset element may claim any type.
		{TypeVector, TypeString, `00000013 00000000 01 0000000000000003 00000003 00000000 01 0000000000000007
			00000007 00000000 01 00000001 61 00000013 00000000 00`, "7,a,-", `[7,"a",null]`},
		// Every bool but 0 is true. Every presence byte but 1 means unset.
		{TypeBool, 0, "00000001 00000000 01 0000000000000200", "T", `true`},
		{TypeBool, 0, "00000001 00000000 02", "-", ``},
		// no port and no prefix has these numbers
		{TypePort, 0, "0000000a 00000000 01 ffffffffffffffff 00000003", "18446744073709551615",
			`18446744073709551615`},
		{TypeSubnet, 0, "0000000c 00000000 01 5f 04 01020304", "1.2.3.4/-1", `"1.2.3.4/-1"`},
		{TypeSubnet, 0, "0000000c 00000000 01 ff 04 01020304", "1.2.3.4/159", `"1.2.3.4/159"`},
		{TypeSubnet, 0, "0000000c 00000000 01 ff 06 00000000000000000000000000000001", "::1/255",
			`"::1/255"`},
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

// refuse runs a batch through every function that reads one, and returns the error. All functions
// must return the same error.
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
		t.Errorf("DecodeRecords returns records beside an error")
	}
	refusal := asError(t, err)
	for _, config := range []string{"tsv", "json"} {
		o := DefaultOptions()
		configs[config](&o)
		out, n, err := mustRenderer(t, raw, o).AppendRecords([]byte("kept"), b)
		if string(out) != "kept" || n != 0 {
			t.Errorf("%s: output %q and %d records beside the error", config, out, n)
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
		{TypeSet, TypeBool, "0000000e 00000000 01 7fffffffffffffff 00000001 00000000 00",
			ReasonBadCount, 0},
		{TypeVector, TypeBool, "00000013 00000000 01 0000000000000002 00000001 00000000 00",
			ReasonBadCount, 0},
		{TypeSet, TypeBool, "0000000e 00000001 01 0000000000000001 00000001 00000000 01 00000000",
			ReasonTruncated, 17},
		{TypeSet, TypeBool, "0000000e 00000001 01 0000000000000001 00000008 00000000 01 00000000",
			ReasonBadType, 17},
		{TypeVector, TypeCount,
			"00000013 00000000 01 0000000000000001 00000013 00000000 01 0000000000000000",
			ReasonNesting, 17},
		{TypeVector, TypeCount,
			"00000013 00000000 01 0000000000000001 0000000e 00000000 01 0000000000000000",
			ReasonNesting, 17},
	} {
		raw := oneValue(t, c.typ, c.subtype, c.value)
		e := refuse(t, raw)
		if e == nil {
			t.Errorf("%s: accepted", c.value)
			continue
		}
		offset := len(header(c.typ, c.subtype)) + 4 + c.offset
		if e.Reason != c.reason || e.Record != 0 || e.Field != "x" || e.Offset != offset {
			t.Errorf("%s: %v; want %s, field x of record 0 at byte %d", c.value, e, c.reason,
				offset)
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
		{"8 fields in the room of 7", append(be(start, 8), make([]byte, 8*14-1)...),
			ReasonBadCount},
		{"2^32-1 records", append(be(header(TypeCount, 0), math.MaxUint32), make([]byte, 100)...),
			ReasonBadCount},
		{"2 records in the room of 1", append(be(header(TypeCount, 0), 2), make([]byte, 17)...),
			ReasonBadCount},
		{"2 records of 2 in the room of 3",
			append(append(append(be(start, 2), twoFields...), 0, 0, 0, 2), make([]byte, 3*9)...),
			ReasonBadCount},
		{"pattern", append(header(8, 0), 0, 0, 0, 0), ReasonBadType},
		{"record", append(header(15, 0), 0, 0, 0, 0), ReasonBadType},
		{"negative type", append(header(-1, 0), 0, 0, 0, 0), ReasonBadType},
		{"void", append(header(TypeVoid, 0), 0, 0, 0, 0), ReasonBadType},
		{"set of nothing", append(header(TypeSet, TypeVoid), 0, 0, 0, 0), ReasonBadType},
		{"set of vectors", append(header(TypeSet, TypeVector), 0, 0, 0, 0), ReasonBadType},
		{"field without name", append(be(start, 1), make([]byte, 14)...), ReasonBadName},
		{"field named with a line feed",
			bytes.Replace(append(header(TypeCount, 0), 0, 0, 0, 0), []byte("\x00\x00\x00\x01x"),
				[]byte("\x00\x00\x00\x01\n"), 1), ReasonBadName},
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

// As in Zeek, only 01 announces a secondary name.
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

func TestBatchCutOffAtAnyByteIsRefused(t *testing.T) {
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
			step := 1
			if len(raw) > 1000 && !testkit.Nightly() {
				step = 7 // divides the size of nothing in a batch
			}
			for n := 0; n < len(raw); n += step {
				e := refuse(t, raw[:n:n])
				if e == nil {
					t.Fatalf("%s: the first %d of %d bytes are accepted", b.Path, n, len(raw))
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
		if label := r.String(); label == "" || labels[label] || strings.ToLower(label) != label ||
			reasonTexts[r].text == "" {
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
