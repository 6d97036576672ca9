package kafka

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// BenchmarkSink measures the time from batch to acknowledgement, with brokers in this process that
// throw everything away.
func BenchmarkSink(b *testing.B) {
	for _, compression := range []Compression{CompressionNone, CompressionSnappy, CompressionZstd} {
		b.Run(compression.String(), func(b *testing.B) {
			c := newCluster(b, kfake.SeedTopics(4, "zeek"), kfake.BlackholeProduce())
			s := newTestSink(b, Config{Brokers: c.ListenAddrs(), Compression: compression})
			var largest zeek.Batch
			for _, m := range testkit.Messages(b, "cluster-logs") {
				batch, err := zeek.ParseBatch(m[3])
				if err != nil {
					b.Fatal(err)
				}
				if string(batch.Path) == "conn" && batch.NumRecords > largest.NumRecords {
					largest = batch
				}
			}
			// A batch of a thousand records.
			batch := largest
			batch.Values = nil
			for batch.NumRecords = 0; batch.NumRecords < 1000; batch.NumRecords += largest.NumRecords {
				batch.Values = slices.Concat(batch.Values, largest.Values)
			}
			done := make(chan error, 1<<16)
			fail := func(refused []pipeline.Refusal, err error) {
				if len(refused) > 0 {
					err = refused[0].Why
				}
				done <- err
			}
			nodes := [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d"), []byte("e"),
				[]byte("f"), []byte("g"), []byte("h")}
			b.ReportAllocs()
			start := time.Now()
			sent := 0
			for i := 0; b.Loop(); i++ {
				s.Send(b.Context(), pipeline.NewEntry(nodes[i%len(nodes)], batch, fail))
				sent++
			}
			for range sent {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			records := float64(sent * batch.NumRecords)
			b.ReportMetric(float64(time.Since(start).Nanoseconds())/records, "ns/record")
			b.ReportMetric(float64(s.Stats().Bytes)/records, "B/record")
			if got := s.Stats().Records; got != uint64(records) {
				b.Fatal(fmt.Sprint(got, " records, want ", records))
			}
		})
	}
}
