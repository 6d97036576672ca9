package reference

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Metric describes a metric of Prometheus.
type Metric struct {
	Name, Help, Type string
	Labels           []string
}

// Metrics returns a page with every metric, in Markdown.
func Metrics(all []Metric) []byte {
	b := bytes.NewBufferString(made)
	b.WriteString("# Metrics\n\n")
	b.WriteString("A daemon serves these metrics at `/metrics` of `--http`, those of its jobs only: the broker's\n" +
		"begin with `zmtpd_forwarder_`, the logger's with `zmtpd_logger_`, `zmtpd_sink_` and\n" +
		"`zmtpd_files_`. It serves Go's `go_` and `process_` metrics as well. Labels have a bounded number\n" +
		"of values: the first 250 log paths, nodes and clients have series of their own, and all others\n" +
		"share the value `other`.\n\n")
	b.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	all = slices.SortedFunc(slices.Values(all), func(a, b Metric) int {
		return cmp.Compare(a.Name, b.Name)
	})
	for _, m := range all {
		labels := make([]string, len(m.Labels))
		for i, l := range m.Labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(labels, ", "),
			cell(m.Help))
	}
	return b.Bytes()
}
