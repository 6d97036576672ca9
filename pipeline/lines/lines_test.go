package lines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// golden returns the batches of a recording.
func golden(t testing.TB, name string) (batches []zeek.Batch) {
	t.Helper()
	for _, parts := range testkit.Messages(t, name) {
		b, err := zeek.ParseBatch(parts[3])
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
	return batches
}

// appendLines renders a batch with a small text.
func appendLines(r *Renderer, dst []byte, b zeek.Batch) ([]byte, *pipeline.DropError) {
	out, err := r.Render(dst, b, func([]byte) ([]byte,
		error) {
		panic("the text has more than one piece")
	})
	e, _ := errors.AsType[*pipeline.DropError](err)
	return out, e
}

func formats() map[string]zeek.Options {
	tsv, jsonl, unset := zeek.DefaultOptions(), zeek.DefaultOptions(), zeek.DefaultOptions()
	jsonl.UseJSON = true
	unset.UseJSON, unset.JSONIncludeUnsetFields = true, true
	return map[string]zeek.Options{"tsv": tsv, "json": jsonl, "json with unset fields": unset}
}

// plain renders one batch with a zeek.Renderer of its own.
func plain(t testing.TB, b zeek.Batch, format zeek.Options) []string {
	t.Helper()
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		t.Fatal(err)
	}
	render, err := zeek.NewRenderer(schema, format)
	if err != nil {
		t.Fatal(err)
	}
	text, n, err := render.AppendRecords(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(string(text)))
	if len(lines) != n {
		t.Fatalf("%d lines for %d records", len(lines), n)
	}
	return lines
}

// Every record is one line: that of Zeek's writer, with the path at its front if wanted.
func TestGolden(t *testing.T) {
	for name, format := range formats() {
		for _, path := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", path), func(t *testing.T) {
				r, err := New(format, path)
				if err != nil {
					t.Fatal(err)
				}
				total := 0
				for _, recorded := range []string{"cluster-logs", "edge-logs", "edge-logs-ext"} {
					for _, b := range golden(t, recorded) {
						want := plain(t, b, format)
						text, e := appendLines(r, []byte("before"), b)
						if e != nil {
							t.Fatal(e)
						}
						rest, ok := strings.CutPrefix(string(text), "before")
						got := slices.Collect(strings.Lines(rest))
						if !ok || len(got) != len(want) {
							t.Fatalf("%d lines, want %d", len(got), len(want))
						}
						for i := range got {
							checkLine(t, got[i], want[i], b, format, path)
						}
						total += len(got)
					}
				}
				if total < 100 {
					t.Fatalf("only %d records were compared", total)
				}
			})
		}
	}
}

// pathAsValue escapes the bytes of recorded paths that a TSV log escapes.
var pathAsValue = strings.NewReplacer(`\`, `\\`, "\x01", `\x01`, "\n", `\x0a`, "\t", `\x09`)

func checkLine(t *testing.T, got, want string, b zeek.Batch, format zeek.Options, path bool) {
	t.Helper()
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		t.Fatal(err)
	}
	own := slices.ContainsFunc(schema.Fields,
		func(f zeek.Field) bool { return f.Name == PathField })
	pathText := pathAsValue.Replace(string(b.Path))
	if format.UseJSON {
		pathText = strings.ReplaceAll(string(b.Path), "\x01", `\x01`)
	}
	switch {
	case !path || own:
		if got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	case format.UseJSON:
		if !strings.HasPrefix(got, `{"_path":"`) {
			t.Fatalf("%q", got)
		}
		var g, w map[string]any
		if err := json.Unmarshal([]byte(got), &g); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if g["_path"] != pathText {
			t.Fatalf("path %q, want %q", g["_path"], pathText)
		}
		delete(g, "_path")
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(g) != fmt.Sprint(w) || len(g) > 0 && !strings.HasSuffix(got, ","+want[1:]) {
			t.Fatalf("%q, want %q", got, want)
		}
	default:
		if got != pathText+format.Separator+want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

// makeBatch returns a batch with one optional string column and the values. Empty values are unset.
func makeBatch(t testing.TB, path, field string, values ...string) zeek.Batch {
	t.Helper()
	s := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Path: path,
		Fields: []zeek.Field{{Name: field, Type: zeek.TypeString, Optional: true}}}
	var records [][]zeek.Value
	for _, v := range values {
		value := zeek.String(v)
		if v == "" {
			value = zeek.Unset(zeek.TypeString)
		}
		records = append(records, []zeek.Value{value})
	}
	raw, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wideBatch returns a batch without records, with columns of the longest names.
func wideBatch(t testing.TB, filter string, columns int) zeek.Batch {
	t.Helper()
	s := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Filter: filter, Path: "p"}
	for i := range columns {
		s.Fields = append(s.Fields,
			zeek.Field{Name: fmt.Sprintf("%0*d", zeek.MaxName, i), Type: zeek.TypeString})
	}
	raw, err := zeek.AppendBatch(nil, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// For any path and values, a record is one line, and in JSON one object.
func TestEdges(t *testing.T) {
	for name, format := range formats() {
		for want, b := range map[string]zeek.Batch{
			"no field is set":  makeBatch(t, "p", "f", ""),
			"path of its own":  makeBatch(t, "p", "_path", "x"),
			"hostile path":     makeBatch(t, "a\n\t\"b\\{}\xff", "f", "x"),
			"no path":          makeBatch(t, "", "f", "x"),
			"line feed":        makeBatch(t, "p", "f", "a\nb"),
			"path like number": makeBatch(t, "1", "f", "x"),
		} {
			r, err := New(format, true)
			if err != nil {
				t.Fatal(err)
			}
			text, e := appendLines(r, nil, b)
			if e != nil {
				t.Fatal(e)
			}
			if bytes.Count(text, []byte("\n")) != 1 || text[len(text)-1] != '\n' {
				t.Errorf("%s, %s: %q", name, want, text)
			}
			if format.UseJSON {
				if !json.Valid(text) || bytes.Count(text, []byte(`"_path"`)) != 1 {
					t.Errorf("%s, %s: %q", name, want, text)
				}
			} else if n := bytes.Count(text, []byte("\t")); n != 1 && want != "path of its own" {
				t.Errorf("%s, %s: %q", name, want, text)
			}
		}
	}
}

// maxHeader is the limit of package pipeline on the bytes of a batch's header.
const maxHeader = 64 << 10

// A batch that cannot be rendered appends nothing, and the error has the logger's reason.
func TestRefused(t *testing.T) {
	format := formats()["json"]
	r, err := New(format, true)
	if err != nil {
		t.Fatal(err)
	}
	good := makeBatch(t, "p", "f", "one", "two")
	torn := good
	torn.Values = torn.Values[:len(torn.Values)-1]
	other := good
	other.Writer = []byte("Log::WRITER_NONE")
	other.Header = append(slices.Clone(good.Header), 'x')
	wide := wideBatch(t, "filter", maxHeader/(14+zeek.MaxName)+1)
	for _, test := range []struct {
		b    zeek.Batch
		want pipeline.Reason
	}{
		{torn, pipeline.BatchReason(zeek.ReasonTruncated)},
		{other, pipeline.ReasonWriter},
		{wide, pipeline.ReasonHeader},
	} {
		out, e := appendLines(r, []byte("before"), test.b)
		if e == nil || e.Reason != test.want || string(out) != "before" {
			t.Errorf("%q, %v, want %v", out, e, test.want)
		}
	}
	if out, e := appendLines(r, nil, good); e != nil || bytes.Count(out, []byte("\n")) != 2 {
		t.Errorf("%q, %v", out, e)
	}
}

func TestNewErrors(t *testing.T) {
	for want, change := range map[string]func(*zeek.Options){
		"separator has a line feed":     func(o *zeek.Options) { o.Separator = "\n" },
		"set_separator has a line feed": func(o *zeek.Options) { o.SetSeparator = "a\n" },
		"choose two different ones":     func(o *zeek.Options) { o.SetSeparator = o.Separator },
		"separator is empty":            func(o *zeek.Options) { o.Separator = "" },
	} {
		format := zeek.DefaultOptions()
		change(&format)
		if _, err := New(format, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Nodes cannot make the cache grow beyond its limit.
func TestCacheIsBounded(t *testing.T) {
	const maxCache = 1 << 20
	r, err := New(formats()["json"], false)
	if err != nil {
		t.Fatal(err)
	}
	r.maxCache = maxCache
	most := 0
	for i := range 3 * maxCache / maxHeader {
		b := wideBatch(t, fmt.Sprint(i), maxHeader/(14+zeek.MaxName)-1)
		if _, e := appendLines(r, nil, b); e != nil {
			t.Fatal(e)
		}
		size := 0
		for header := range r.cache {
			size += len(header)
		}
		if size != r.bytes || size > maxCache {
			t.Fatalf("%d bytes are kept, %d are counted", size, r.bytes)
		}
		most = max(most, size)
	}
	if most < maxCache/2 {
		t.Errorf("only %d bytes were kept", most)
	}
}

// Concurrent goroutines get the same text as a single one.
func TestConcurrent(t *testing.T) {
	r, err := New(formats()["json"], true)
	if err != nil {
		t.Fatal(err)
	}
	batches := golden(t, "cluster-logs")
	var want [][]byte
	for _, b := range batches {
		text, e := appendLines(r, nil, b)
		if e != nil {
			t.Fatal(e)
		}
		want = append(want, text)
	}
	r.cache, r.bytes = map[string]*columns{}, 0
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var buf []byte
			for i := range batches {
				i = (i + g*len(batches)/4) % len(batches)
				var e *pipeline.DropError
				if buf, e = appendLines(r, buf[:0], batches[i]); e != nil ||
					!bytes.Equal(buf, want[i]) {
					t.Errorf("batch %d differs: %v", i, e)
				}
			}
		})
	}
	wg.Wait()
}

// With known headers nothing is allocated, in either format.
func TestNoAllocations(t *testing.T) {
	if testkit.Race {
		t.Skip("with the race detector a sync.Pool drops values at random")
	}
	for name, format := range formats() {
		for _, path := range []bool{false, true} {
			r, err := New(format, path)
			if err != nil {
				t.Fatal(err)
			}
			b := makeBatch(t, "p", "f", "one", "two", "three")
			buf := make([]byte, 0, 1<<12)
			if n := testing.AllocsPerRun(100, func() {
				if _, e := appendLines(r, buf, b); e != nil {
					t.Fatal(e)
				}
			}); n >= 1 { // the garbage collector may empty the pool
				t.Errorf("%s, %v: %v allocations", name, path, n)
			}
		}
	}
}
