package kafka

import (
	"fmt"
	"math"
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// A batch with a long text is delivered in pieces, in order with the batches before and behind it.
// Only records larger than a record batch are refused. They are not rendered as a whole.
func TestLongBatch(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "zeek"))
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), MaxBuffered: 4 << 20,
		MaxBatchBytes: 100_000})
	r := newResults(t)
	const n, before, behind = 40_000, 1e6, 1e6 + 1
	schema := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Path: "p",
		Fields: []zeek.Field{
			{Name: "n", Type: zeek.TypeCount},
			{Name: "v", Type: zeek.TypeVector, Subtype: zeek.TypeDouble}}}
	// number of elements, by record
	large := map[int]int{100: 2_000, n / 2: 50_000, n/2 + 1: 60_000, n - 1: 5_000}
	var records [][]zeek.Value
	var want []int
	for i := range n {
		v := []zeek.Value{zeek.Double(0.5)}
		if large[i] > 0 {
			v = slices.Repeat([]zeek.Value{zeek.Double(math.MaxFloat64)}, large[i])
		}
		if large[i] <= 2_000 {
			want = append(want, i)
		}
		records = append(records, []zeek.Value{zeek.Count(uint64(i)), zeek.Vector(v...)})
	}
	raw, err := zeek.AppendBatch(nil, schema, records)
	if err != nil {
		t.Fatal(err)
	}
	s.Send(testkit.Context(t), r.entry("node", batch(t, "p", before)))
	s.Send(testkit.Context(t), r.entry("node", raw))
	s.Send(testkit.Context(t), r.entry("node", batch(t, "p", behind)))
	shut(t, s)
	if errs := r.failed(); len(errs) > 0 {
		t.Fatal(errs)
	}
	if got := r.refused[pipeline.ReasonTooLarge]; got != uint64(n-len(want)) ||
		len(r.refused) != 1 {
		t.Errorf("refused %v: %v", r.refused, r.reasons)
	}
	var got []int
	for _, m := range consume(t, c, len(want)+2, []string{"zeek"}) {
		got = append(got, numberOf(t, m.value))
	}
	want = append(append([]int{before}, want...), behind)
	if !slices.Equal(got, want) {
		t.Errorf("%d records have arrived, want %d, or the order is wrong", len(got), len(want))
	}
	if st := s.Stats(); st.Records != uint64(len(want)) {
		t.Errorf("%+v", st)
	}
}

// A sink is not up until a broker has answered, even without records to deliver. It says why.
func TestUpOnlyAfterAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts no connection
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log logBuffer
	s := newTestSink(t, Config{Brokers: []string{l.Addr().String()}, Logger: log.logger()})
	if st := s.Stats(); st.Up || st.Err == nil {
		t.Errorf("at first: %+v", st)
	}
	l.Close()
	testkit.Eventually(t, "the first failure is logged",
		func() bool { return log.count("Kafka does not take") > 0 })
	if st := s.Stats(); st.Up || st.Err == nil {
		t.Errorf("without a broker: %+v", st)
	}
	c := newCluster(t)
	s = newTestSink(t, Config{Brokers: c.ListenAddrs()})
	testkit.Eventually(t, "the broker has answered", func() bool { return s.Stats().Up })
	if st := s.Stats(); st.Err != nil {
		t.Error(fmt.Sprint(st.Err))
	}
}
