package printer

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
	"zmtpd/pipeline/pipelinetest"
	"zmtpd/zmtp"
)

// Of a message with many or long parts a part is printed, in all formats, and how much is left out.
func TestBounded(t *testing.T) {
	parts := make([][]byte, 5000)
	parts[0] = bytes.Repeat([]byte("x"), 1<<20)
	ev := capture.Event{Kind: capture.Message, From: capture.Client, Session: &capture.Session{},
		Message: zmtp.NewMessage(parts...)}
	for _, format := range []Format{Text, JSON, TSV} {
		var out strings.Builder
		w := New(&out, format, false)
		if err := w.Write(&ev, cluster.Item{}, cluster.New(cluster.Options{})); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := out.Len(); n > maxShown+5*maxParts+1000 ||
			!strings.Contains(out.String(), "... and 1044480 bytes") {
			t.Errorf("%s: %d bytes: %.100q", format, n, out.String())
		}
		if format != JSON {
			continue
		}
		var l struct {
			Parts []string
			Left  int `json:"parts_left_out"`
		}
		if err := json.Unmarshal([]byte(out.String()), &l); err != nil ||
			len(l.Parts) != maxParts || l.Left != 4000 {
			t.Errorf("%d parts, %d left out, %v", len(l.Parts), l.Left, err)
		}
	}
}

// Of a log batch with large rows, whole rows are printed as far as they fit.
func TestRowsBounded(t *testing.T) {
	const rows = 20
	row := strings.Repeat("x", 1<<20)
	ev := capture.Event{Kind: capture.Message, From: capture.Client, Session: &capture.Session{},
		Message: zmtp.NewMessage(pipelinetest.Message(t, "node", "STREAM", "path", "text",
			slices.Repeat([]string{row}, rows)...)...)}
	a := cluster.New(cluster.Options{})
	item := a.Observe(&ev)
	var out strings.Builder
	w := New(&out, JSON, false)
	if err := errors.Join(w.Write(&ev, item, a), w.Flush()); err != nil {
		t.Fatal(err)
	}
	var l struct {
		Records int
		Rows    []struct{ Text string }
		Left    int `json:"rows_left_out"`
	}
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil || l.Records != rows ||
		len(l.Rows) != maxRows>>20-1 || l.Left != rows-len(l.Rows) || l.Rows[0].Text != row {
		t.Errorf("%d records, %d rows, %d left out, %v: %.200s", l.Records, len(l.Rows), l.Left,
			err,
			out.String())
	}
}

// What a terminal would act on is escaped.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{"\x1b[2J": `\x1b[2J`, "a\tb\n": `a\x09b\x0a`,
		`\`: `\\`, "grün": "grün", "\xff": `\xff`, "\u202e": `\xe2\x80\xae`} {
		if got := printable([]byte(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
