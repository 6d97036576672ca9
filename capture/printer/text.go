package printer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Colors of a terminal (ECMA-48).
const (
	colorReset = "\x1b[0m"
	colorDim   = "\x1b[2m"
	colorRed   = "\x1b[31m"
	colorGreen = "\x1b[32m"
	colorCyan  = "\x1b[36m"
)

var kindColors = map[string]string{
	"problem": colorRed, "gap": colorRed, "malformed": colorRed, "log": colorGreen,
	"event": colorCyan, "encrypted": colorDim,
}

func (w *Writer) paint(s, color string) string {
	if !w.color || color == "" {
		return s
	}
	return color + s + colorReset
}

// text prints an event as a line, and each row of a log as another one.
func (w *Writer) text(l line) error {
	arrow := "->"
	if l.From == "" {
		arrow = "--"
	}
	fmt.Fprintf(w.w, "%s %s %s %s %s%s\n", l.Time.In(w.zone).Format("15:04:05.000000"),
		paddedEndpoint(l.Source), arrow, paddedEndpoint(l.Dest),
		w.paint(l.Kind, kindColors[l.Kind]), details(l))
	for _, row := range l.Rows {
		if _, err := fmt.Fprintf(w.w, "    %s\n", row); err != nil {
			return err
		}
	}
	if l.RowsLeft > 0 {
		fmt.Fprintf(w.w, "    and %d more\n", l.RowsLeft)
	}
	return nil
}

func paddedEndpoint(s string) string { return fmt.Sprintf("%-21s", s) }

// details returns what there is to say about an event, with a space before each word.
func details(l line) string {
	var b strings.Builder
	add := func(name, value string) {
		if value == "" {
			return
		}
		b.WriteByte(' ')
		if name != "" {
			b.WriteString(name + "=")
		}
		if strings.ContainsAny(value, " \"") {
			value = strconv.Quote(value)
		}
		b.WriteString(value)
	}
	number := func(name string, n int64) {
		if n != 0 {
			add(name, strconv.FormatInt(n, 10))
		}
	}
	add("", l.Command)
	add("version", l.Version)
	add("mechanism", l.Mechanism)
	add("protocol", l.Protocol)
	for _, name := range slices.Sorted(maps.Keys(l.Metadata)) {
		add(name, l.Metadata[name])
	}
	add("", l.Event)
	add("", l.Path)
	add("topic", l.Topic)
	add("node", l.Node)
	number("records", int64(l.Records))
	if len(l.Args) > 0 {
		b.WriteString(" " + string(l.Args))
	}
	add("", l.Data)
	for _, part := range l.Parts {
		b.WriteString(` "` + strings.ReplaceAll(part, `"`, `\"`) + `"`)
	}
	number("parts_left_out", int64(l.PartsLeft))
	if l.Kind == "message" || l.Kind == "command" || l.Kind == "encrypted" {
		number("size", int64(l.Size))
	}
	number("bytes", l.Missing)
	add("", l.Closed)
	add("error", l.Error)
	return b.String()
}

var tsvColumns = []string{"ts", "session", "src", "dst", "kind", "topic", "node", "name", "records",
	"size", "detail"}

// tsv prints an event as columns. printable has escaped the tabs.
func (w *Writer) tsv(l line) error {
	if !w.header {
		w.header = true
		fmt.Fprintln(w.w, strings.Join(tsvColumns, "\t"))
	}
	name, topic := l.Command+l.Event+l.Path+l.Mechanism+l.Protocol+l.Closed, l.Topic
	detail := strings.Join(l.Parts, " ")
	switch {
	case len(l.Args) > 0:
		detail = string(l.Args)
	case len(l.Rows) > 0:
		detail = string(bytes.Join(raws(l.Rows), []byte(" ")))
	case len(l.Metadata) > 0:
		b, _ := json.Marshal(l.Metadata)
		detail = string(b)
	case l.Data != "":
		detail = l.Data
	}
	if l.Error != "" {
		detail = strings.TrimSpace(detail + " " + l.Error)
	}
	size := int64(l.Size) + l.Missing
	_, err := fmt.Fprintln(w.w, strings.Join([]string{l.Time.UTC().Format(time.RFC3339Nano),
		strconv.FormatUint(l.Session, 10), l.Source, l.Dest, l.Kind, topic, l.Node, name,
		strconv.Itoa(l.Records), strconv.FormatInt(size, 10), detail}, "\t"))
	return err
}

func raws(rows []json.RawMessage) [][]byte {
	out := make([][]byte, len(rows))
	for i, row := range rows {
		out[i] = row
	}
	return out
}
