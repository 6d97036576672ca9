package zeek

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// renderValue renders a record of the single value v.
func renderValue(t testing.TB, v Value, subtype Type, o Options) string {
	t.Helper()
	s := &Schema{Stream: "S::LOG", Writer: "W",
		Fields: []Field{{Name: "x", Type: v.Type, Subtype: subtype}}}
	raw, err := AppendBatch(nil, s, [][]Value{{v}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(render(t, raw, o), "\n")
}

// The examples come from Zeek's own tests and from its rules of escaping.
func TestEscaping(t *testing.T) {
	set := func(s ...string) Value {
		v := Set()
		for _, s := range s {
			v.Elems = append(v.Elems, String(s))
		}
		return v
	}
	for _, c := range []struct {
		opts func(o *Options)
		v    Value
		want string
	}{
		{nil, String("a\tb"), `a\x09b`},
		{nil, String(`a\b`), `a\\b`},
		{nil, String("é"), "é"},
		{nil, String("é\x01"), `\xc3\xa9\x01`},
		{nil, String("é\t\x01"), `é\x09\x01`},
		{nil, set("x,y"), `x\x2cy`},
		{nil, String("x,y"), "x,y"},
		{nil, String("\n"), `\x0a`},
		{nil, String("\x00"), `\x00`},
		{nil, String("\ufffd"), `\xef\xbf\xbd`},
		{nil, String("\ue000"), `\xee\x80\x80`},
		{nil, String("\u0085"), `\xc2\x85`},
		{nil, String("\u00a0"), "\u00a0"},
		{nil, String("-"), `\x2d`},
		{nil, Unset(TypeString), "-"},
		{nil, String(""), "(empty)"},
		{nil, String("(empty)"), `\x28empty)`},
		{nil, String("#Kaputt"), `\x23Kaputt`},
		{nil, set("AA", ",", ",,", "CC"), `AA,\x2c,\x2c\x2c,CC`},
		{nil, set(""), "(empty)"},
		{nil, set(), "(empty)"},
		{nil, set("-", ""), `\x2d,(empty)`},
		{nil, String("foo ® bar हिन्दी hello 𠜎"), "foo ® bar हिन्दी hello 𠜎"},
		{nil, String("foo \n\t\x00 bar"), `foo \x0a\x09\x00 bar`},
		{func(o *Options) { o.Separator = "|" }, String("abc\n\xffdef"), `abc\x0a\xffdef`},
		{func(o *Options) { o.Separator = "|" }, String("abc|\xffdef"), `abc\x7c\xffdef`},
		{func(o *Options) { o.EmptyField = "EMPTY" }, set("EMPTY"), `\x45MPTY`},
		{func(o *Options) { o.SetSeparator = "®" }, set("®"), `\xc2\xae`},
		{func(o *Options) { o.EnableUTF8 = false }, String("é\\"), `\xc3\xa9\\`},
		{func(o *Options) { o.Separator = "." }, Addr(netip.MustParseAddr("10.1.2.3")),
			`10\x2e1\x2e2\x2e3`},
		{func(o *Options) { o.MetaPrefix = "" }, Count(7), `\x37`},
		{func(o *Options) { o.MetaPrefix, o.EmptyField = "", "" }, String(""), ``},
	} {
		o := DefaultOptions()
		if c.opts != nil {
			c.opts(&o)
		}
		if got := renderValue(t, c.v, TypeString, o); got != c.want {
			t.Errorf("%+v: %s, want %s", c.v, got, c.want)
		}
	}
}

// This is Zeek's own test of the three policies.
func TestJSONPolicies(t *testing.T) {
	for _, c := range []struct{ in, hex, pua, tsv string }{
		{"\b\f\n\r\t\x00\x15", `\b\f\n\r\t\\x00\\x15`, `\b\f\n\r\t\udb80\udc00\udb80\udc15`,
			`\\x08\\x0c\\x0a\\x0d\\x09\\x00\\x15`},
		{"ñ", "ñ", "ñ", "ñ"},
		{"\xc3(", `\\xc3(`, `\udb80\udcc3(`, `\\xc3(`},
		{"\xed\xa0\xa1", `\\xed\\xa0\\xa1`, `\udb80\udced\udb80\udca0\udb80\udca1`,
			`\\xed\\xa0\\xa1`},
		{`\\`, `\\\\`, `\\\\`, `\\\\\\\\`},
		{"\x0b\\v\x0b", `\\x0b\\v\\x0b`, `\udb80\udc0b\\v\udb80\udc0b`, `\\x0b\\\\v\\x0b`},
		{"\a\b", `\\x07\b`, `\udb80\udc07\b`, `\\x07\\x08`},
		{"a rocket 🚀!", "a rocket 🚀!", "a rocket 🚀!", "a rocket 🚀!"},
		{"a rocket 🚀!\x00 NUL\x00", `a rocket \\xf0\\x9f\\x9a\\x80!\\x00 NUL\\x00`,
			`a rocket 🚀!\udb80\udc00 NUL\udb80\udc00`,
			`a rocket \\xf0\\x9f\\x9a\\x80!\\x00 NUL\\x00`},
		{`say "/"`, `say \"/\"`, `say \"/\"`, `say \"/\"`},
	} {
		for policy, want := range map[StringEscapePolicy]string{
			StringEscapeHex: c.hex, StringEscapePUA: c.pua, StringEscapeTSV: c.tsv,
		} {
			o := DefaultOptions()
			o.UseJSON, o.JSONStringEscapePolicy = true, policy
			if got, want := renderValue(t, String(c.in), 0, o), `{"x":"`+want+`"}`; got != want {
				t.Errorf("%q, policy %d: %s, want %s", c.in, policy, got, want)
			}
			if got, want := renderValue(t, Enum(c.in), 0, o), `{"x":"`+c.hex+`"}`; got != want {
				t.Errorf("enum %q, policy %d: %s, want %s", c.in, policy, got, want)
			}
		}
	}
}

// The records of any batch are decoded to the same records. A renderer writes, batch after batch,
// what the slow writer writes. Batches in between that are cut off leave the renderer as it was.
func TestRender(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySchema(t)
		o := anyOptions(t)
		tsv, err := NewRenderer(s, o)
		if err != nil {
			t.Fatal(err)
		}
		slow := newSlowWriter(o)
		o.UseJSON = true
		json, err := NewRenderer(s, o)
		if err != nil {
			t.Fatal(err)
		}
		// TSV's escaping does not apply to numbers in JSON.
		slowJSON := &slowWriter{Options: o}
		slowJSON.MetaPrefix, slowJSON.Separator, slowJSON.SetSeparator = "#", "\t", ","

		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			var records [][]Value
			for range rapid.IntRange(0, 4).Draw(t, "records") {
				var record []Value
				for _, f := range s.Fields {
					record = append(record, anyValue(t, f))
				}
				records = append(records, record)
			}
			raw, err := AppendBatch(nil, s, records)
			if err != nil {
				t.Fatal(err)
			}
			b, err := ParseBatch(raw)
			if err != nil {
				t.Fatal(err)
			}
			if parsed, err := ParseSchema(b.Header); err != nil ||
				fmt.Sprint(parsed) != fmt.Sprint(s) {
				t.Fatalf("schema %v, %v; want %v", parsed, err, s)
			}
			decoded, err := DecodeRecords(b, s)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%#v", decoded),
				fmt.Sprintf("%#v", records); len(records) > 0 && !sameRecords(decoded, records) {
				t.Fatalf("decoded %s\nwant %s", got, want)
			}

			if len(b.Values) > 0 {
				cut := b
				cut.Values = b.Values[:rapid.IntRange(0, len(b.Values)-1).Draw(t, "cut")]
				for _, r := range []*Renderer{tsv, json} {
					if out, n, err := r.AppendRecords([]byte("kept"), cut); err == nil || n != 0 ||
						string(out) != "kept" {
						t.Fatalf("%d of %d bytes of values: %q, %d records, %v", len(cut.Values),
							len(b.Values), out, n, err)
					}
				}
			}

			wantTSV, wantJSON := "kept", "kept"
			for _, record := range records {
				wantTSV += slow.line(record)
				wantJSON += slowJSON.jsonLine(s.Fields, record)
			}
			check := func(r *Renderer, want string) {
				got, n, err := r.AppendRecords([]byte("kept"), b)
				if err != nil || n != len(records) || string(got) != want {
					t.Fatalf("%d records, %v\n got %q\nwant %q", n, err, got, want)
				}
			}
			check(tsv, wantTSV)
			check(json, wantJSON)
		}
	})
}

func sameRecords(a, b [][]Value) bool {
	return slices.EqualFunc(a, b, func(a,
		b []Value) bool {
		return slices.EqualFunc(a, b, sameValue)
	})
}

func sameValue(a, b Value) bool {
	return a.Type == b.Type && a.Unset == b.Unset && a.Num == b.Num && a.Proto == b.Proto &&
		a.Text == b.Text && a.Addr == b.Addr &&
		slices.EqualFunc(a.Elems, b.Elems, sameValue)
}

// If separator and set separator are equal, the first container of an accepted batch changes the
// escaping of the batches behind it. A container of a refused batch must not.
func TestRollback(t *testing.T) {
	s := &Schema{Stream: "S::LOG", Writer: "W",
		Fields: []Field{{Name: "s", Type: TypeString},
			{Name: "v", Type: TypeVector, Subtype: TypeCount}}}
	o := DefaultOptions()
	o.Separator = ","
	r, err := NewRenderer(s, o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := AppendBatch(nil, s,
		[][]Value{{String("a,b"), Vector(Count(1))}, {String("a,b"), Vector(Count(1))}})
	if err != nil {
		t.Fatal(err)
	}
	good, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Values = bytes.Clone(good.Values)
	bad.Values[len(bad.Values)-14] = 8 // the type of the last element becomes pattern
	for range 2 {
		if _, _, err := r.AppendRecords(nil, bad); err == nil || asError(t, err).Record != 1 {
			t.Fatalf("the bad batch: %v", err)
		}
	}
	for _, want := range []string{"a\\x2cb,1\na,b,1\n", "a,b,1\na,b,1\n"} {
		if got, _, err := r.AppendRecords(nil, good); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

// Rendering allocates nothing for a batch or record, in either format.
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
		for range 2 { // the second time with what the first one cached
			out, n, err := r.AppendRecords([]byte("kept"), b)
			if c.ok {
				if err != nil || n != 1 {
					t.Errorf("%s: %d records, %v", c.name, n, err)
				}
				continue
			}
			if e := asError(t, err); e.Reason != ReasonSchemaMismatch || n != 0 ||
				string(out) != "kept" {
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
		if _, err := NewRenderer(weirdSchema(), o); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
	}
	if _, err := NewRenderer(&Schema{}, DefaultOptions()); err == nil {
		t.Error("an empty schema is accepted")
	}
}

// #open and #close are in the location of the given time.
func TestHeaderTimes(t *testing.T) {
	r, err := NewRenderer(weirdSchema(), DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 3, 7, 23, 0, 0, 0, time.UTC).In(time.FixedZone("", 2*3600))
	if got := string(r.AppendHeader(nil, at)); !strings.Contains(got,
		"\n#open\t2024-03-08-01-00-00\n") {
		t.Errorf("header %q", got)
	}
	if got, want := string(r.AppendFooter(nil, at)), "#close\t2024-03-08-01-00-00\n"; got != want {
		t.Errorf("footer %q, want %q", got, want)
	}
}
