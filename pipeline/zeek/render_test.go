package zeek

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// renderValue renders a record of this one value.
func renderValue(t testing.TB, v Value, subtype Type, o Options) string {
	t.Helper()
	s := &Schema{Stream: "S::LOG", Writer: "W", Fields: []Field{{Name: "x", Type: v.Type, Subtype: subtype}}}
	raw, err := AppendBatch(nil, s, [][]Value{{v}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(render(t, raw, o), "\n")
}

// TestEscaping has the examples of Zeek's own tests and of the escaping rules.
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
		{func(o *Options) { o.Separator = "." }, Addr(netip.MustParseAddr("10.1.2.3")), `10\x2e1\x2e2\x2e3`},
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

// TestJSONPolicies is Zeek's test of the three policies.
func TestJSONPolicies(t *testing.T) {
	for _, c := range []struct{ in, hex, pua, tsv string }{
		{"\b\f\n\r\t\x00\x15", `\b\f\n\r\t\\x00\\x15`, `\b\f\n\r\t\udb80\udc00\udb80\udc15`, `\\x08\\x0c\\x0a\\x0d\\x09\\x00\\x15`},
		{"ñ", "ñ", "ñ", "ñ"},
		{"\xc3(", `\\xc3(`, `\udb80\udcc3(`, `\\xc3(`},
		{"\xed\xa0\xa1", `\\xed\\xa0\\xa1`, `\udb80\udced\udb80\udca0\udb80\udca1`, `\\xed\\xa0\\xa1`},
		{`\\`, `\\\\`, `\\\\`, `\\\\\\\\`},
		{"\x0b\\v\x0b", `\\x0b\\v\\x0b`, `\udb80\udc0b\\v\udb80\udc0b`, `\\x0b\\\\v\\x0b`},
		{"\a\b", `\\x07\b`, `\udb80\udc07\b`, `\\x07\\x08`},
		{"a rocket 🚀!", "a rocket 🚀!", "a rocket 🚀!", "a rocket 🚀!"},
		{"a rocket 🚀!\x00 NUL\x00", `a rocket \\xf0\\x9f\\x9a\\x80!\\x00 NUL\\x00`, `a rocket 🚀!\udb80\udc00 NUL\udb80\udc00`, `a rocket \\xf0\\x9f\\x9a\\x80!\\x00 NUL\\x00`},
		{`say "/"`, `say \"/\"`, `say \"/\"`, `say \"/\"`},
	} {
		for policy, want := range map[StringEscapePolicy]string{StringEscapeHex: c.hex, StringEscapePUA: c.pua, StringEscapeTSV: c.tsv} {
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

// slowWriter renders values with the set of escape sequences of a path, as Zeek describes it: leaving a
// container takes the set separator out even if it is the separator.
type slowWriter struct {
	Options
	seqs map[string]bool
}

func newSlowWriter(o Options) *slowWriter {
	return &slowWriter{o, map[string]bool{o.Separator: true}}
}

// latin1 makes a character of each byte, so that a regexp can match bytes.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func unlatin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func slowHex(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(`\x` + hex.EncodeToString([]byte{s[i]}))
	}
	return b.String()
}

func slowAcceptable(r rune) bool {
	return r >= 0x20 && r < 0x7f || r >= 0xa0 && !(r >= 0xe000 && r <= 0xf8ff) && !(r >= 0xfff0 && r <= 0xffff)
}

var slowUnprintable = regexp.MustCompile(`[^\x20-\x7e]`)

func (w *slowWriter) escape(s string) string {
	pattern := `\\`
	if !w.EnableUTF8 {
		pattern += `|[^\x20-\x7e]`
	}
	var seqs []string
	for seq := range w.seqs {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		pattern += "|" + regexp.QuoteMeta(latin1(seq))
	}
	special := regexp.MustCompile(pattern)
	segment := func(s string) string {
		s = unlatin1(s)
		ok := utf8.ValidString(s)
		for _, r := range s {
			ok = ok && slowAcceptable(r)
		}
		if !w.EnableUTF8 || ok {
			return s
		}
		return slowUnprintable.ReplaceAllStringFunc(latin1(s), func(c string) string { return slowHex(unlatin1(c)) })
	}
	var b strings.Builder
	s = latin1(s)
	for {
		at := special.FindStringIndex(s)
		if at == nil {
			return b.String() + segment(s)
		}
		b.WriteString(segment(s[:at[0]]))
		b.WriteString(strings.ReplaceAll(slowHex(unlatin1(s[at[0]:at[1]])), `\x5c`, `\\`))
		s = s[at[1]:]
	}
}

func (w *slowWriter) tsv(v Value) string {
	text := func() string {
		n := math.Float64frombits(v.Num)
		switch v.Type {
		case TypeBool:
			return map[bool]string{false: "F", true: "T"}[v.Num != 0]
		case TypeInt:
			return fmt.Sprint(int64(v.Num))
		case TypeCount, TypePort:
			return fmt.Sprint(v.Num)
		case TypeDouble:
			if n == 0 {
				return "0.0"
			}
			s := strings.TrimRight(strconv.FormatFloat(n, 'f', 6, 64), "0")
			s = strings.TrimSuffix(s, ".")
			if math.Abs(n-math.Round(n)) < 1e-9 {
				s += ".0"
			}
			return s
		case TypeTime, TypeInterval:
			return fmt.Sprintf("%.6f", n)
		case TypeAddr:
			return slowAddr(v.Addr)
		case TypeSubnet:
			if v.Addr.Is4() {
				return fmt.Sprintf("%s/%d", v.Addr, v.Num-96)
			}
			return fmt.Sprintf("%s/%d", slowAddr(v.Addr), v.Num)
		}
		panic(v.Type)
	}
	switch {
	case v.Unset:
		return w.escape(w.UnsetField)
	case v.Type == TypeSet || v.Type == TypeVector:
		if len(v.Elems) == 0 {
			return w.escape(w.EmptyField)
		}
		w.seqs[w.SetSeparator] = true
		var elems []string
		for _, e := range v.Elems {
			elems = append(elems, w.tsv(e))
		}
		delete(w.seqs, w.SetSeparator)
		return strings.Join(elems, w.SetSeparator)
	case v.Type == TypeString || v.Type == TypeEnum || v.Type == TypeFile || v.Type == TypeFunc:
		if v.Text == "" {
			return w.escape(w.EmptyField)
		}
		if v.Text == w.UnsetField || v.Text == w.EmptyField {
			return slowHex(v.Text[:1]) + w.escape(v.Text[1:])
		}
		return w.escape(v.Text)
	}
	return w.escape(text())
}

func (w *slowWriter) line(record []Value) string {
	var columns []string
	for _, v := range record {
		columns = append(columns, w.tsv(v))
	}
	line := strings.Join(columns, w.Separator)
	if line != "" && strings.HasPrefix(line, w.MetaPrefix) {
		line = slowHex(line[:1]) + line[1:]
	}
	return line + "\n"
}

func (w *slowWriter) jsonText(s string, policy StringEscapePolicy) string {
	quote := strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	const short = "\b\f\n\r\t"
	switch policy {
	case StringEscapeTSV:
		plain := &slowWriter{Options: Options{EnableUTF8: true}}
		return `"` + quote.Replace(plain.escape(s)) + `"`
	case StringEscapePUA:
		var b strings.Builder
		for s != "" {
			r, n := utf8.DecodeRuneInString(s)
			switch {
			case strings.ContainsRune(short, r) || slowAcceptable(r):
				b.WriteString(quote.Replace(s[:n]))
			default:
				n = 1
				fmt.Fprintf(&b, `\udb80\udc%02x`, s[0])
			}
			s = s[n:]
		}
		return `"` + b.String() + `"`
	}
	ok := utf8.ValidString(s)
	for _, r := range s {
		ok = ok && (slowAcceptable(r) || strings.ContainsRune(short, r))
	}
	if !ok {
		s = regexp.MustCompile(`[^\x20-\x7e\x08\x0c\n\r\t]`).ReplaceAllStringFunc(latin1(s), func(c string) string { return slowHex(unlatin1(c)) })
		s = unlatin1(s)
	}
	return `"` + quote.Replace(s) + `"`
}

func (w *slowWriter) jsonValue(v Value) string {
	n := math.Float64frombits(v.Num)
	switch {
	case v.Unset:
		return "null"
	case v.Type == TypeSet || v.Type == TypeVector:
		elems := []string{}
		for _, e := range v.Elems {
			elems = append(elems, w.jsonValue(e))
		}
		return "[" + strings.Join(elems, ",") + "]"
	case v.Type == TypeBool:
		return fmt.Sprint(v.Num != 0)
	case v.Type == TypeInt || v.Type == TypeCount || v.Type == TypePort:
		return w.tsv(v)
	case v.Type == TypeAddr || v.Type == TypeSubnet:
		return `"` + w.tsv(v) + `"`
	case v.Type == TypeString:
		return w.jsonText(v.Text, w.JSONStringEscapePolicy)
	case v.Type == TypeEnum || v.Type == TypeFile || v.Type == TypeFunc:
		return w.jsonText(v.Text, StringEscapeHex)
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsMillis:
		return fmt.Sprint(int64(n * 1000))
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsMillisUnsigned:
		return fmt.Sprint(uint64(int64(n * 1000)))
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsISO8601:
		return time.UnixMicro(int64(n * 1e6)).UTC().Format(`"2006-01-02T15:04:05.000000Z"`)
	}
	if n == math.Trunc(n) {
		return fmt.Sprintf("%.1f", n)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func (w *slowWriter) jsonLine(fields []Field, record []Value) string {
	var members []string
	for i, v := range record {
		if !v.Unset || w.JSONIncludeUnsetFields {
			members = append(members, strconv.Quote(fields[i].Name)+":"+w.jsonValue(v))
		}
	}
	return "{" + strings.Join(members, ",") + "}\n"
}

var atomicTypes = []Type{TypeBool, TypeInt, TypeCount, TypeDouble, TypeTime, TypeInterval, TypeString,
	TypeEnum, TypePort, TypeAddr, TypeSubnet, TypeFunc, TypeFile}

// anyText draws strings that are likely to meet separators, markers and bad UTF-8.
func anyText() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{"a", "b", " ", "\t", ",", "<", ">", "<>", "<>,", "|", ".", `\`, "-", "(empty)", "#", `"`, "/",
		"é", "é\x01", `""`, "ab\tcd", `<\`, "®", "\xc2", "\xae", "日", "🚀", "\x00", "\x01", "\x7f", "\n", "\b", "\ufffd", "\ue000", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "x41"})
	return rapid.OneOf(rapid.Just(""), piece, rapid.Map(rapid.SliceOfN(piece, 0, 8), func(p []string) string { return strings.Join(p, "") }))
}

// anyAtomic draws a value of an atomic type. Doubles are eighths, of which all ways of
// writing have the same digits; the exact digits have tests of their own.
func anyAtomic(t *rapid.T, typ Type) Value {
	if rapid.IntRange(0, 5).Draw(t, "unset") == 0 {
		return Unset(typ)
	}
	eighths := func() float64 { return float64(rapid.Int64Range(-1<<36, 1<<36).Draw(t, "eighths")) / 8 }
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
	s := &Schema{Stream: "S::LOG", Writer: "W", Filter: anyText().Draw(t, "filter"), Path: anyText().Draw(t, "path")}
	for i := range rapid.IntRange(1, 5).Draw(t, "fields") {
		f := Field{Name: fmt.Sprintf("f%d\"", i), Type: rapid.SampledFrom(append(atomicTypes, TypeSet, TypeVector)).Draw(t, "type"),
			Optional: rapid.Bool().Draw(t, "optional")}
		if f.Type.isContainer() {
			f.Subtype = rapid.SampledFrom(atomicTypes).Draw(t, "subtype")
		}
		s.Fields = append(s.Fields, f)
	}
	return s
}

func anyOptions(t *rapid.T) Options {
	separators := []string{"\t", ",", "|", ".", "<>", "<>,", "®", "\xc2", "a", "ab", "\\", `<\`, "\ta", "0", "-"}
	markers := []string{"", "-", "(empty)", "#", "<>", `\`, "a", "é\x01", `""`, "ab\tcd"}
	return Options{
		Separator:              rapid.SampledFrom(separators).Draw(t, "separator"),
		SetSeparator:           rapid.SampledFrom(separators).Draw(t, "set_separator"),
		EmptyField:             rapid.SampledFrom(markers).Draw(t, "empty_field"),
		UnsetField:             rapid.SampledFrom(markers).Draw(t, "unset_field"),
		MetaPrefix:             rapid.SampledFrom(markers).Draw(t, "meta_prefix"),
		EnableUTF8:             rapid.Bool().Draw(t, "enable_utf_8"),
		JSONIncludeUnsetFields: rapid.Bool().Draw(t, "json_include_unset_fields"),
		JSONTimestamps:         rapid.SampledFrom([]JSONTimestamps{0, 1, 2, 3}).Draw(t, "json_timestamps"),
		JSONStringEscapePolicy: rapid.SampledFrom([]StringEscapePolicy{0, 1, 2}).Draw(t, "json_string_escape_policy"),
	}
}

// TestRender: batches of any records are decoded to the same records, and a renderer
// writes of them, one after the other, what the slow writer writes. Between them come
// batches that are cut off, which must not leave a trace.
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
		// Numbers in JSON are not subject to the escaping of TSV.
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
			if parsed, err := ParseSchema(b.Header); err != nil || fmt.Sprint(parsed) != fmt.Sprint(s) {
				t.Fatalf("schema %v, %v; want %v", parsed, err, s)
			}
			decoded, err := DecodeRecords(b, s)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%#v", decoded), fmt.Sprintf("%#v", records); len(records) > 0 && !sameRecords(decoded, records) {
				t.Fatalf("decoded %s\nwant %s", got, want)
			}

			if len(b.Values) > 0 {
				cut := b
				cut.Values = b.Values[:rapid.IntRange(0, len(b.Values)-1).Draw(t, "cut")]
				for _, r := range []*Renderer{tsv, json} {
					if out, n, err := r.AppendRecords([]byte("kept"), cut); err == nil || n != 0 || string(out) != "kept" {
						t.Fatalf("%d of %d bytes of values: %q, %d records, %v", len(cut.Values), len(b.Values), out, n, err)
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
	return slices.EqualFunc(a, b, func(a, b []Value) bool { return slices.EqualFunc(a, b, sameValue) })
}

func sameValue(a, b Value) bool {
	return a.Type == b.Type && a.Unset == b.Unset && a.Num == b.Num && a.Proto == b.Proto && a.Text == b.Text && a.Addr == b.Addr &&
		slices.EqualFunc(a.Elems, b.Elems, sameValue)
}

// TestRollback: with separator and set separator equal, a container of a batch that is
// refused must not change the escaping of the next batch; one that is accepted must.
func TestRollback(t *testing.T) {
	s := &Schema{Stream: "S::LOG", Writer: "W", Fields: []Field{{Name: "s", Type: TypeString}, {Name: "v", Type: TypeVector, Subtype: TypeCount}}}
	o := DefaultOptions()
	o.Separator = ","
	r, err := NewRenderer(s, o)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := AppendBatch(nil, s, [][]Value{{String("a,b"), Vector(Count(1))}, {String("a,b"), Vector(Count(1))}})
	if err != nil {
		t.Fatal(err)
	}
	good, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Values = bytes.Clone(good.Values)
	bad.Values[len(bad.Values)-14] = 8 // the last element becomes a pattern
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
