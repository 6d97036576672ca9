package logwriter

import (
	"context"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// recordedRecords returns the recorded records of a path as structs.
func recordedRecords[T any](tb testing.TB, path string) []T {
	tb.Helper()
	var records []T
	for _, m := range testkit.Messages(tb, "cluster-logs") {
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

// Write allocates nothing but the memory of each message, for every type of column.
func TestAllocations(t *testing.T) {
	if testkit.Race {
		t.Skip("allocations of the race detector count")
	}
	type record struct {
		conn
		Named  *namedString              `zeek:"named"`
		Nested *connID                   `zeek:"nested"`
		Holes  []*namedInt               `zeek:"holes"`
		Map    map[netip.Prefix]struct{} `zeek:"map"`
		PSet   *map[namedString]struct{} `zeek:"pset"`
		Slice  []namedBytes              `zeek:"slice,optional"`
		Times  []time.Time               `zeek:"times"`
		Zero   time.Duration             `zeek:"zero,optional"`
	}
	name, number := namedString("x"), namedInt(1)
	r := record{
		conn: recordedRecords[conn](t, "conn")[0], Named: &name, Nested: &connID{},
		Holes: []*namedInt{nil, &number},
		Map:   map[netip.Prefix]struct{}{{}: {}}, PSet: &map[namedString]struct{}{"a": {}, "b": {}},
		Slice: []namedBytes{nil}, Times: make([]time.Time, 3),
	}
	w := newWriter[record](t, discard{}, Config{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(10_000, func() {
		if err := w.Write(ctx, r); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for each record", n)
	}
	if s := w.Stats(); s.Batches < 9 {
		t.Errorf("only %d batches were sent", s.Batches)
	}
}
