package logwriter

import (
	"context"
	"reflect"
	"testing"
)

// recordedRecords returns the recorded records of a path as structs.
func recordedRecords[T any](tb testing.TB, path string) []T {
	tb.Helper()
	var records []T
	for _, m := range recordedMessages(tb, "cluster-logs") {
		s, values := decode(tb, m[3])
		if s.Path != path {
			continue
		}
		for _, v := range values {
			var r T
			fillRecord(reflect.ValueOf(&r).Elem(), v)
			records = append(records, r)
		}
	}
	if len(records) == 0 {
		tb.Fatalf("no records of %s", path)
	}
	return records
}

func benchmarkWrite[T any](b *testing.B, path string) {
	records := recordedRecords[T](b, path)
	w := newWriter[T](b, discard{}, Config{})
	ctx := context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := w.Write(ctx, records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkWrite(b *testing.B) {
	b.Run("conn", func(b *testing.B) { benchmarkWrite[conn](b, "conn") })
	b.Run("dns", func(b *testing.B) { benchmarkWrite[dns](b, "dns") })
	b.Run("http", func(b *testing.B) { benchmarkWrite[http](b, "http") })
}
