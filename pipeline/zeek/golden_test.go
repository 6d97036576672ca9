package zeek

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// The recordings hold log messages of real Zeek nodes, and the files that Zeek's own logger wrote
// from them. Log paths are percent-encoded in the file names.

// recordedBatches returns the fourth part of every message of a recording, in order.
func recordedBatches(t testing.TB, name string) [][]byte {
	t.Helper()
	var batches [][]byte
	for _, parts := range testkit.Messages(t, name) {
		if len(parts) != 4 || string(parts[0]) != "log-write" ||
			string(parts[2]) != SerializerName {
			t.Fatalf("not a log message: %q", parts[:min(3, len(parts))])
		}
		batches = append(batches, parts[3])
	}
	return batches
}

// writeAll renders batches in the given order, as a logger would, and returns the files by log
// path. when returns the times at which a path's file is opened and closed.
func writeAll(t testing.TB, batches [][]byte, o Options,
	when func(path string) (open, close time.Time)) map[string][]byte {
	t.Helper()
	type file struct {
		*Renderer
		text []byte
	}
	files := make(map[string]*file)
	for i, raw := range batches {
		b, err := ParseBatch(raw)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		f := files[string(b.Path)]
		if f == nil {
			s, err := ParseSchema(b.Header)
			if err != nil {
				t.Fatalf("batch %d: %v", i, err)
			}
			r, err := NewRenderer(s, o)
			if err != nil {
				t.Fatal(err)
			}
			open, _ := when(s.Path)
			f = &file{Renderer: r, text: r.AppendHeader(nil, open)}
			files[s.Path] = f
		}
		text, n, err := f.AppendRecords(f.text, b)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if n != b.NumRecords {
			t.Fatalf("batch %d: %d records, want %d", i, n, b.NumRecords)
		}
		f.text = text
	}
	texts := make(map[string][]byte)
	for path, f := range files {
		_, close := when(path)
		texts[path] = f.AppendFooter(f.text, close)
	}
	return texts
}

// fileName encodes a log path as the recordings do.
func fileName(path string) string {
	var s strings.Builder
	for i := range len(path) {
		c := path[i]
		if 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			strings.IndexByte("._-", c) >= 0 {
			s.WriteByte(c)
		} else {
			fmt.Fprintf(&s, "%%%02X", c)
		}
	}
	return s.String() + ".log"
}

// recordedTime returns the time in the line of a log that starts with key. Only these times do not
// depend on the batches alone.
func recordedTime(t testing.TB, log []byte, key string) time.Time {
	t.Helper()
	i := bytes.LastIndex(log, []byte(key))
	if i < 0 {
		return time.Time{}
	}
	line, _, _ := bytes.Cut(log[i+len(key):], []byte("\n"))
	open, err := time.Parse(timeLayout, string(line))
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// configs are the configurations of the recordings. The CONFIG files in the archives say the same
// as Zeek script.
var configs = map[string]func(*Options){
	"tsv":           func(*Options) {},
	"tsv-nometa":    func(o *Options) { o.IncludeMeta = false },
	"tsv-noutf8":    func(o *Options) { o.EnableUTF8 = false },
	"tsv-perfilter": func(o *Options) { o.TSV = true },
	"tsv-separators": func(o *Options) {
		o.Separator, o.SetSeparator = "|", ";"
		o.EmptyField, o.UnsetField = "EMPTY", "NOT-SET"
		o.MetaPrefix = "PREFIX<>"
	},
	"tsv-csv": func(o *Options) {
		o.Separator, o.SetSeparator = ",", ","
		o.EmptyField, o.UnsetField = `""`, ""
	},
	"tsv-exotic": func(o *Options) {
		o.Separator, o.SetSeparator = ".", "\xc2\xae"
		o.MetaPrefix = ""
	},
	"tsv-multibyte": func(o *Options) {
		o.Separator, o.SetSeparator = "<>,", "<>"
		o.EmptyField, o.UnsetField = "", ""
	},
	"json":       func(o *Options) { o.UseJSON = true },
	"json-unset": func(o *Options) { o.UseJSON, o.JSONIncludeUnsetFields = true, true },
	"json-millis": func(o *Options) {
		o.UseJSON, o.JSONTimestamps = true,
			JSONTimestampsMillis
	},
	"json-millis-unsigned": func(o *Options) {
		o.UseJSON, o.JSONTimestamps = true,
			JSONTimestampsMillisUnsigned
	},
	"json-iso8601": func(o *Options) {
		o.UseJSON, o.JSONTimestamps = true,
			JSONTimestampsISO8601
	},
	"json-pua": func(o *Options) {
		o.UseJSON, o.JSONStringEscapePolicy = true,
			StringEscapePUA
	},
	"json-tsvpolicy": func(o *Options) {
		o.UseJSON, o.JSONStringEscapePolicy = true,
			StringEscapeTSV
	},
}

func TestGolden(t *testing.T) {
	for name, want := range map[string]struct{ configs, logs int }{
		"cluster-logs":  {2, 33},
		"edge-logs":     {15, 33},
		"edge-logs-ext": {3, 9},
	} {
		t.Run(name, func(t *testing.T) {
			byConfig := make(map[string]map[string][]byte)
			for path, content := range testkit.Golden(t, name) {
				if config, file, ok := strings.Cut(path, "/"); ok && file != "CONFIG" {
					if byConfig[config] == nil {
						byConfig[config] = make(map[string][]byte)
					}
					byConfig[config][file] = content
				}
			}
			if len(byConfig) != want.configs {
				t.Errorf("%d configurations, want %d", len(byConfig), want.configs)
			}
			for config, logs := range byConfig {
				t.Run(config, func(t *testing.T) {
					if len(logs) != want.logs {
						t.Errorf("%d logs recorded, want %d", len(logs), want.logs)
					}
					testGolden(t, recordedBatches(t, name), config, logs)
				})
			}
		})
	}
}

func testGolden(t *testing.T, batches [][]byte, config string, want map[string][]byte) {
	set := configs[config]
	if set == nil {
		t.Fatalf("no options for configuration %s", config)
	}
	o := DefaultOptions()
	set(&o)
	got := writeAll(t, batches, o, func(path string) (open, close time.Time) {
		log := want[fileName(path)]
		return recordedTime(t, log, o.MetaPrefix+"open"+o.Separator),
			recordedTime(t, log, o.MetaPrefix+"close"+o.Separator)
	})
	if len(got) != len(want) {
		t.Errorf("%d logs written, want %d", len(got), len(want))
	}
	for path, text := range got {
		if want := want[fileName(path)]; !bytes.Equal(text, want) {
			t.Errorf("%s: %s", path, firstDifference(text, want))
		}
	}
}

func firstDifference(got, want []byte) string {
	g, w := bytes.SplitAfter(got, []byte("\n")), bytes.SplitAfter(want, []byte("\n"))
	for i := range min(len(g), len(w)) {
		if !bytes.Equal(g[i], w[i]) {
			return fmt.Sprintf("line %d\n got %q\nwant %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
