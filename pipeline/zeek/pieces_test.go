package zeek

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// collect renders a batch in pieces of the given size. It checks the promises of RenderRecords
// about pieces. It returns the text, in the memory of text, and the size of the largest piece.
func collect(tb testing.TB, text []byte, r *Renderer, b Batch, size int) (_ []byte, largest int,
	err error) {
	tb.Helper()
	text = text[:0]
	open := false // the last piece ended within a line
	piece := func(p []byte) {
		if open && bytes.IndexByte(p[:len(p)-1], '\n') >= 0 && len(p) > 0 {
			tb.Fatal("a piece holds the end of a long line and more")
		}
		if open = p[len(p)-1] != '\n'; open && bytes.IndexByte(p, '\n') >= 0 {
			tb.Fatal("a piece holds whole lines and a part of one")
		}
		largest = max(largest, len(p))
		text = append(text, p...)
	}
	r.pager.limit = size
	rest, _, err := r.renderPieces(nil, b, func(p []byte) ([]byte, error) {
		piece(p)
		return p[:0], nil
	})
	if len(rest) > 0 {
		piece(rest)
	}
	return text, largest, err
}

// repeat returns a batch of n records with the same values.
func repeat(tb testing.TB, s *Schema, record []Value, n int) Batch {
	tb.Helper()
	raw, err := AppendBatch(nil, s, [][]Value{record})
	if err != nil {
		tb.Fatal(err)
	}
	one, err := ParseBatch(raw)
	if err != nil {
		tb.Fatal(err)
	}
	raw = binary.BigEndian.AppendUint32(bytes.Clone(one.Header), uint32(n))
	b, err := ParseBatch(append(raw, bytes.Repeat(one.Values, n)...))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// alternate returns a batch with the values of a, then b, then a again.
func alternate(tb testing.TB, a, b Batch) Batch {
	tb.Helper()
	raw := binary.BigEndian.AppendUint32(bytes.Clone(a.Header), uint32(2*a.NumRecords+b.NumRecords))
	all, err := ParseBatch(slices.Concat(raw, a.Values, b.Values, a.Values))
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// pieceOptions covers all ways of escaping a value.
func pieceOptions() map[string]Options {
	all := map[string]Options{}
	for name, change := range map[string]func(*Options){
		"tsv":       func(*Options) {},
		"tsv ascii": func(o *Options) { o.EnableUTF8 = false },
		"tsv odd": func(o *Options) {
			o.Separator, o.SetSeparator, o.MetaPrefix = "ab", "1",
				"x"
		},
		"tsv ordered": func(o *Options) { o.SetSeparator = o.Separator },
		"tsv path":    func(o *Options) { o.PathField = "_path" },
		"json hex":    func(o *Options) { o.UseJSON, o.JSONIncludeUnsetFields = true, true },
		"json pua": func(o *Options) {
			o.UseJSON, o.JSONStringEscapePolicy = true,
				StringEscapePUA
		},
		"json tsv": func(o *Options) {
			o.UseJSON, o.JSONStringEscapePolicy = true,
				StringEscapeTSV
		},
		"json path": func(o *Options) { o.UseJSON, o.PathField = true, "_path" },
	} {
		o := DefaultOptions()
		change(&o)
		all[name] = o
	}
	return all
}

// The text in pieces is equal to the text in one piece. No piece is much larger than PieceBytes,
// whether the batch has many records, long lines, long containers or long strings.
func TestPieces(t *testing.T) {
	const size = 64 << 10
	text := func(part string) string { return strings.Repeat(part, 3*size/len(part)) }
	doubles := make([]Value, 700)
	for i := range doubles {
		doubles[i] = Double(math.MaxFloat64)
	}
	strs := make([]Value, 4)
	for i := range strs {
		strs[i] = String(strings.Repeat("a\x01", 20_000))
	}
	fields := func(types ...Type) (all []Field) {
		for i, typ := range types {
			f := Field{Name: strings.Repeat(string(rune('a'+i)), MaxName), Type: typ}
			if typ.isContainer() {
				f.Subtype = TypeDouble
			}
			all = append(all, f)
		}
		return all
	}
	var got, want []byte // reused: the race detector looks at each byte of new memory
	stringVector := []Field{{Name: "v", Type: TypeVector, Subtype: TypeString},
		{Name: "n", Type: TypeCount}}
	for _, c := range []struct {
		name    string
		fields  []Field
		record  []Value
		records int
	}{
		{"tiny records, long names", fields(TypeBool), []Value{Bool(true)}, 700},
		{"large numbers", fields(TypeDouble, TypeCount),
			[]Value{Double(-math.MaxFloat64), Count(1)}, 500},
		{"one long vector", fields(TypeCount, TypeVector, TypeCount),
			[]Value{Count(1), Vector(doubles...), Count(2)}, 3},
		{"a vector of strings", stringVector, []Value{Vector(strs...), Count(1)}, 2},
		{"plain string", fields(TypeString, TypeCount),
			[]Value{String(text("plain text ")), Count(3)}, 3},
		{"meta prefix", fields(TypeString, TypeCount), []Value{String(text("#xab1")), Count(3)}, 3},
		{"characters", fields(TypeString), []Value{String(text("aüß日本𐍈"))}, 2},
		{"characters and bytes", fields(TypeString),
			[]Value{String(text("aüß日本𐍈\xff\x80\x80\x80\x80\x80"))}, 2},
		{"backslashes", fields(TypeEnum, TypeString), []Value{Enum(text(`\`)), String(text(`\"`))},
			2},
		{"control characters", fields(TypeString, TypeFile),
			[]Value{String(text("\x01\n")), File(text("\x01"))}, 2},
		{"nothing", []Field{{Name: "s", Type: TypeString}, {Name: "n", Type: TypeCount}},
			[]Value{Unset(TypeString), Unset(TypeCount)}, 20_000},
	} {
		s := &Schema{Stream: "S::LOG", Writer: "Log::WRITER_ASCII", Path: "#a\x01",
			Fields: c.fields}
		b := repeat(t, s, c.record, c.records)
		if c.records < 10 { // short lines between the long ones
			short := make([]Value, len(c.fields))
			for i, f := range c.fields {
				short[i] = Unset(f.Type)
			}
			b = alternate(t, b, repeat(t, s, short, c.records))
		}
		for name, o := range pieceOptions() {
			whole, err := NewRenderer(s, o)
			if err != nil {
				t.Fatal(err)
			}
			want, _, err = whole.AppendRecords(want[:0], b)
			if err != nil {
				t.Fatal(err)
			}
			pieces, err := NewRenderer(s, o)
			if err != nil {
				t.Fatal(err)
			}
			var largest int
			got, largest, err = collect(t, got, pieces, b, size)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, want %d, error %v", c.name, name, len(got), len(want),
					err)
			}
			if largest > size+12*longText {
				t.Errorf("%s, %s: the largest piece has %d bytes", c.name, name, largest)
			}
			if pieces.tsv.leftContainer != whole.tsv.leftContainer {
				t.Errorf("%s, %s: the renderer's state is not that after one piece", c.name, name)
			}
		}
	}
}

// A long string that equals the marker of unset values is escaped.
func TestLongMarker(t *testing.T) {
	o := DefaultOptions()
	o.UnsetField = strings.Repeat("u", longText+1)
	s := &Schema{Stream: "S::LOG", Writer: "Log::WRITER_ASCII", Path: "p",
		Fields: []Field{{Name: "s", Type: TypeString}}}
	r, err := NewRenderer(s, o)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := collect(t, nil, r, repeat(t, s, []Value{String(o.UnsetField)}, 1), PieceBytes)
	if want := `\x75` + o.UnsetField[1:] + "\n"; err != nil || string(got) != want {
		t.Errorf("%.20q, want %.20q, error %v", got, want, err)
	}
}

// The text is the same for every batch and every size of pieces.
func TestPiecesOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt)
		o := anyOptions(rt)
		if rapid.Bool().Draw(rt, "path") {
			o.PathField = "_path"
		}
		if o.Validate() != nil {
			return
		}
		records := make([][]Value, rapid.IntRange(1, 8).Draw(rt, "records"))
		for i := range records {
			for _, f := range s.Fields {
				records[i] = append(records[i], anyValue(rt, f))
			}
		}
		raw, err := AppendBatch(nil, s, records)
		if err != nil {
			rt.Fatal(err)
		}
		b, err := ParseBatch(raw)
		if err != nil {
			rt.Fatal(err)
		}
		whole, err := NewRenderer(s, o)
		if err != nil {
			rt.Fatal(err)
		}
		want, _, err := whole.AppendRecords(nil, b)
		if err != nil {
			rt.Fatal(err)
		}
		pieces, err := NewRenderer(s, o)
		if err != nil {
			rt.Fatal(err)
		}
		limit := rapid.IntRange(1, 100).Draw(rt, "limit")
		var got []byte
		pieces.pager.limit = limit
		rest, n, err := pieces.renderPieces(nil, b, func(p []byte) ([]byte, error) {
			got = append(got, p...)
			return p[:0], nil
		})
		if got = append(got, rest...); err != nil || n != len(records) || !bytes.Equal(got, want) {
			rt.Fatalf("pieces of %d: %q, want %q, error %v", limit, got, want, err)
		}
	})
}

// If the last value of a batch is faulty, no piece of the batch is handed over.
func TestNoPieceOfFaultyBatch(t *testing.T) {
	s := &Schema{Stream: "S::LOG", Writer: "Log::WRITER_ASCII", Path: "p", Fields: []Field{
		{Name: strings.Repeat("n", MaxName), Type: TypeBool},
		{Name: "v", Type: TypeVector, Subtype: TypeDouble}}}
	const records, size = 2000, 8 << 10 // a third of the shortest text
	good := repeat(t, s, []Value{Bool(true), Vector(Double(1), Double(2))}, records)
	for name, spoil := range map[string]func(b []byte) []byte{
		"type":    func(b []byte) []byte { b[len(b)-17-17-9-8-17+3] = byte(TypeCount); return b },
		"element": func(b []byte) []byte { b[len(b)-17+3] = byte(TypeVector); return b },
		"cut off": func(b []byte) []byte { return b[:len(b)-1] },
	} {
		bad := good
		bad.Values = spoil(bytes.Clone(good.Values))
		for _, o := range pieceOptions() {
			r, err := NewRenderer(s, o)
			if err != nil {
				t.Fatal(err)
			}
			dst := []byte("before")
			r.pager.limit = size
			out, n, err := r.renderPieces(dst, bad, func([]byte) ([]byte, error) {
				t.Errorf("%s: a piece was handed over", name)
				return nil, nil
			})
			_, isError := errors.AsType[*Error](err)
			_, _, want := r.AppendRecords(nil, bad)
			if !isError || want == nil || err.Error() != want.Error() || n != 0 ||
				string(out) != "before" {
				t.Errorf("%s: %q, %d records, error %v, want %v", name, out, n, err, want)
			}
			text, largest, err := collect(t, nil, r, good, size)
			if err != nil || bytes.Count(text, []byte("\n")) != records || largest > 2*size {
				t.Errorf("%s: the renderer does not work afterwards: %v", name, err)
			}
		}
	}
}

// An error of the function that takes the pieces ends the rendering, and leaves the renderer as it
// was.
func TestPieceFails(t *testing.T) {
	o := DefaultOptions()
	o.SetSeparator = o.Separator
	s := &Schema{Stream: "S::LOG", Writer: "Log::WRITER_ASCII", Path: "p",
		Fields: []Field{{Name: "v", Type: TypeVector, Subtype: TypeString}}}
	b := repeat(t, s, []Value{Vector(String("a\tb"), String(strings.Repeat("x", 1000)))}, 5000)
	r, err := NewRenderer(s, o)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := r.AppendRecords(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	r.Rollback()
	failure := errors.New("disk full")
	for fail := range 4 {
		calls := 0
		_, n, err := r.RenderRecords(nil, b, func(p []byte) ([]byte, error) {
			if calls++; calls > fail {
				return nil, failure
			}
			return p[:0], nil
		})
		if err != failure || n != 0 || calls != fail+1 {
			t.Errorf("%d records, %d calls, error %v", n, calls, err)
		}
	}
	if got, _, err := collect(t, nil, r, b, PieceBytes); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, error %v", len(got), len(want), err)
	}
}

// Names are bounded in size, since each record repeats them.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", MaxName)
	for name, change := range map[string]func(s *Schema, name string){
		"stream": func(s *Schema, name string) { s.Stream = name },
		"writer": func(s *Schema, name string) { s.Writer = name },
		"filter": func(s *Schema, name string) { s.Filter = name },
		"path":   func(s *Schema, name string) { s.Path = name },
		"field":  func(s *Schema, name string) { s.Fields[0].Name = name },
	} {
		s := &Schema{Stream: "S", Writer: "W", Filter: "F", Path: "P",
			Fields: []Field{{Name: "n", Type: TypeBool}}}
		change(s, long)
		raw, err := AppendBatch(nil, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseBatch(raw); err != nil {
			t.Errorf("%s of %d bytes: %v", name, MaxName, err)
		}
		change(s, long+"n")
		if _, err := AppendBatch(nil, s, nil); err == nil {
			t.Errorf("%s of %d bytes is accepted", name, MaxName+1)
		}
		size := binary.BigEndian.AppendUint32
		tooLong := bytes.Replace(raw, append(size(nil, MaxName), long...),
			append(size(nil, MaxName+1), long+"n"...), 1)
		_, err = ParseBatch(tooLong)
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonBadName {
			t.Errorf("%s of %d bytes: %v", name, MaxName+1, err)
		}
	}
}
