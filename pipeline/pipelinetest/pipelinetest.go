// Package pipelinetest has helpers for the tests of the logger's packages.
package pipelinetest

import (
	"strings"
	"testing"

	"zmtpd/pipeline/zeek"
)

// Message returns the parts of a log message from a node. columns are the names of its string
// columns, separated by spaces. Each line becomes a record with that text in every column.
func Message(t testing.TB, node, stream, path, columns string, lines ...string) [][]byte {
	t.Helper()
	s := &zeek.Schema{Stream: stream, Writer: "Log::WRITER_ASCII", Filter: "default", Path: path}
	for c := range strings.SplitSeq(columns, " ") {
		s.Fields = append(s.Fields, zeek.Field{Name: c, Type: zeek.TypeString})
	}
	var records [][]zeek.Value
	for _, line := range lines {
		record := make([]zeek.Value, len(s.Fields))
		for i := range record {
			record[i] = zeek.Value{Type: zeek.TypeString, Text: line}
		}
		records = append(records, record)
	}
	batch, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{[]byte("log-write"), []byte(node), []byte(zeek.SerializerName), batch}
}
