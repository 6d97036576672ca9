package zeek

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// recordedPath returns all records of one path of cluster-logs as one batch, as a node under load
// would send them. The recorded batches are small.
func recordedPath(tb testing.TB, path string) (batch []byte, records int) {
	var values []byte
	for _, raw := range recordedBatches(tb, "cluster-logs") {
		b, err := ParseBatch(raw)
		if err != nil {
			tb.Fatal(err)
		}
		if string(b.Path) == path {
			batch = b.Header
			values = append(values, b.Values...)
			records += b.NumRecords
		}
	}
	if records == 0 {
		tb.Fatalf("no records of %s", path)
	}
	batch = binary.BigEndian.AppendUint32(batch[:len(batch):len(batch)], uint32(records))
	return append(batch, values...), records
}

func mustRenderer(tb testing.TB, raw []byte, o Options) *Renderer {
	tb.Helper()
	b, err := ParseBatch(raw)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ParseSchema(b.Header)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := NewRenderer(s, o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func benchmarkRender(b *testing.B, o Options, raw []byte, records int) {
	r := mustRenderer(b, raw, o)
	var buf []byte
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		batch, err := ParseBatch(raw)
		if err != nil {
			b.Fatal(err)
		}
		if buf, _, err = r.AppendRecords(buf[:0], batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
}

// BenchmarkPath parses and renders the recorded records of a path.
func BenchmarkPath(b *testing.B) {
	for _, path := range []string{"conn", "dns", "http", "ssl"} {
		batch, records := recordedPath(b, path)
		for _, config := range []string{"tsv", "json", "json-iso8601"} {
			b.Run(path+"/"+config, func(b *testing.B) {
				o := DefaultOptions()
				configs[config](&o)
				benchmarkRender(b, o, batch, records)
			})
		}
	}
}

// BenchmarkType renders a batch of one column.
func BenchmarkType(b *testing.B) {
	v4 := netip.MustParseAddr("192.168.212.17")
	v6 := netip.MustParseAddr("fe80::2a0:98ff:fe12:3456")
	for _, c := range []struct {
		name  string
		value Value
	}{
		{"unset", Unset(TypeString)},
		{"bool", Bool(true)},
		{"int", Int(-42)},
		{"count", Count(1234567)},
		{"double", Double(0.7254)},
		{"time", Time(1700000000.123456)},
		{"interval", Interval(0.031337)},
		{"string", String("CmES5u32sYpV7JYN")},
		{"string-escaped", String("Mozilla/5.0 \\ \x01 with\ttab")},
		{"string-utf8", String("übergrößenträger 日本")},
		{"enum", Enum("tcp")},
		{"port", Port(443, ProtoTCP)},
		{"addr4", Addr(v4)},
		{"addr6", Addr(v6)},
		{"subnet", Subnet(netip.PrefixFrom(v4, 24))},
		{"set-empty", Set()},
		{"set-2-strings", Set(String("ssl"), String("http"))},
		{"vector-2-doubles", Vector(Interval(0.5), Interval(1.25))},
	} {
		f := Field{Name: "x", Type: c.value.Type}
		if len(c.value.Elems) > 0 {
			f.Subtype = c.value.Elems[0].Type
		} else if f.Type.isContainer() {
			f.Subtype = TypeString
		}
		const records = 1000
		rows := make([][]Value, records)
		for i := range rows {
			rows[i] = []Value{c.value}
		}
		raw, err := AppendBatch(nil,
			&Schema{Stream: "B::LOG", Writer: "Log::WRITER_ASCII", Fields: []Field{f}}, rows)
		if err != nil {
			b.Fatal(err)
		}
		for _, config := range []string{"tsv", "json"} {
			b.Run(c.name+"/"+config, func(b *testing.B) {
				o := DefaultOptions()
				configs[config](&o)
				benchmarkRender(b, o, raw, records)
			})
		}
	}
}

func BenchmarkParseBatch(b *testing.B) {
	batch, _ := recordedPath(b, "conn")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBatch(batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendBatch encodes the recorded records of conn.
func BenchmarkAppendBatch(b *testing.B) {
	raw, _ := recordedPath(b, "conn")
	s := mustRenderer(b, raw, DefaultOptions()).Schema()
	batch, err := ParseBatch(raw)
	if err != nil {
		b.Fatal(err)
	}
	records, err := DecodeRecords(batch, s)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = AppendBatch(buf[:0], s, records); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(records)),
		"ns/record")
}
