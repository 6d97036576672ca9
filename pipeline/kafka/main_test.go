package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time that anything may take.
const patience = testkit.Patience

// newCluster returns brokers that listen on the loopback interface.
func newCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2),
		kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// impatient are options that keep waiting times in tests short.
func impatient() []kgo.Opt {
	return []kgo.Opt{
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}
}

// newTestSink returns a sink that is closed at the end of the test unless the test closes it.
func newTestSink(t testing.TB, cfg Config) *Sink {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	cfg.options = append(impatient(), cfg.options...)
	cfg.maxBackoff = 50 * time.Millisecond
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
		if n := s.quota.Used(); n != 0 {
			t.Errorf("%d bytes of the quota are in use after Close", n)
		}
		if n := s.entries.Load(); n != 0 {
			t.Errorf("%d entries are not done after Close", n)
		}
	})
	return s
}

// results collects the outcomes of entries.
type results struct {
	t       testing.TB
	mu      sync.Mutex
	open    map[*pipeline.Entry]bool
	errs    []error
	refused map[pipeline.Reason]uint64
	reasons []error
	done    int
}

func newResults(t testing.TB) *results {
	r := &results{t: t, open: map[*pipeline.Entry]bool{}, refused: map[pipeline.Reason]uint64{}}
	t.Cleanup(func() {
		if n := r.left(); n != 0 {
			t.Errorf("%d entries are not done", n)
		}
	})
	return r
}

// entry returns an entry whose calls of Done are checked.
func (r *results) entry(node string, batch []byte) *pipeline.Entry {
	b, err := zeek.ParseBatch(batch)
	if err != nil {
		r.t.Fatal(err)
	}
	var e *pipeline.Entry
	e = pipeline.NewEntry([]byte(node), b, func(refused []pipeline.Refusal, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.open[e] {
			r.t.Error("Done was called twice")
		}
		delete(r.open, e)
		r.done++
		for _, f := range refused {
			r.refused[f.Why.Reason] += f.Records
			r.reasons = append(r.reasons, f.Why)
		}
		if err != nil {
			r.errs = append(r.errs, err)
		}
		// the memory is no longer valid
		clear(batch)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[e] = true
	return e
}

func (r *results) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

func (r *results) failed() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.errs
}

// batch returns a batch with a record for each number, in the field n.
func batch(t testing.TB, path string, numbers ...int) []byte {
	t.Helper()
	s := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Filter: "default", Path: path,
		Fields: []zeek.Field{
			{Name: "uid", Type: zeek.TypeString}, {Name: "n", Type: zeek.TypeCount},
			{Name: "text", Type: zeek.TypeString, Optional: true}}}
	var records [][]zeek.Value
	for _, n := range numbers {
		records = append(records, []zeek.Value{zeek.String(fmt.Sprintf("C%d", n%7)),
			zeek.Count(uint64(n)), zeek.String("line one\nline two, \"uid\":\"no\"")})
	}
	b, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbers(from, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = from + i
	}
	return all
}

// shut closes a sink, which must deliver everything.
func shut(t testing.TB, s *Sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// message is a record that was consumed.
type message struct {
	topic      string
	partition  int32
	offset     int64
	key, value string
}

// consume reads all messages of the topics, in the order of each partition. There must be n of
// them.
func consume(t testing.TB, c *kfake.Cluster, n int, topics []string, opts ...kgo.Opt) []message {
	t.Helper()
	client, err := kgo.NewClient(append(append(impatient(), kgo.SeedBrokers(c.ListenAddrs()...),
		kgo.ConsumeTopics(topics...), kgo.FetchMaxWait(50*time.Millisecond)), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []message
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			if ctx.Err() != nil || errors.Is(e.Err, context.DeadlineExceeded) {
				t.Fatalf("%d messages, want %d: %v", len(all), n, e.Err)
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, message{r.Topic, r.Partition, r.Offset, string(r.Key),
				string(r.Value)})
		})
	}
	stored := 0
	for _, topic := range topics {
		for _, p := range c.PartitionInfos(topic) {
			stored += int(p.HighWatermark)
		}
	}
	if len(all) != n || stored != n {
		t.Fatalf("%d messages were read, %d are stored, want %d", len(all), stored, n)
	}
	return all
}
