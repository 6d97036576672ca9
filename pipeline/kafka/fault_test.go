package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// logBuffer holds the log of a sink.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

const (
	begins = "does not take log records"
	ends   = "no longer wait for Kafka"
)

// checkFlow checks that the messages have all numbers below n in order. Each number occurs once
// unless duplicates are allowed; then its first occurrence counts.
func checkFlow(t testing.TB, messages []message, n int, duplicates bool) {
	t.Helper()
	seen := map[int]bool{}
	last := -1
	for _, m := range messages {
		v := numberOf(t, m.value)
		if seen[v] && duplicates {
			continue
		}
		if v != last+1 {
			t.Fatalf("%d comes after %d", v, last)
		}
		seen[v], last = true, v
	}
	if last != n-1 {
		t.Fatalf("the last is %d, want %d", last, n-1)
	}
}

// Errors that may go away cost neither records nor order, and are logged once, whatever franz-go
// does with them.
func TestTriedAgain(t *testing.T) {
	for _, test := range []struct {
		fault  kfake.Fault
		logged bool // franz-go does not report errors after which it tries again itself
	}{
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition}, false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas}, false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend},
			false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}, false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError}, false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.OutOfOrderSequenceNumber}, false},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnsupportedForMessageFormat}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.CorruptMessage}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.ClusterAuthorizationFailed}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.TopicAuthorizationFailed}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed,
			TopLevel: true}, true},
		{kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress,
			TopLevel: true}, false},
	} {
		t.Run(test.fault.Keys[0].Name()+" "+test.fault.Err.Message, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(2, "zeek"))
			fault := test.fault
			fault.Count = 3
			handle := c.Fault(fault)
			var log logBuffer
			s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Logger: log.logger(),
				Linger: time.Millisecond})
			r := newResults(t)
			const batches, size = 40, 25
			for i := range batches {
				s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(i*size, size)...)))
			}
			testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
			if handle.Hits() != 3 {
				t.Errorf("%d faults", handle.Hits())
			}
			if st := s.Stats(); !st.Up || st.Err != nil || st.Records != batches*size {
				t.Errorf("%+v", st)
			}
			if n := log.count(begins); n != log.count(ends) || test.logged != (n == 1) || n > 1 {
				t.Errorf("logged:\n%s", log.b.String())
			}
			shut(t, s)
			if errs := r.failed(); len(errs) > 0 || len(r.refused) > 0 {
				t.Errorf("errors %v, refused %v", errs, r.refused)
			}
			checkFlow(t, consume(t, c, batches*size, []string{"zeek"}), batches*size, false)
		})
	}
}

// inTrouble reports whether an obstacle to delivery is known. A sink is also not up while no broker
// has answered yet, although it may have no trouble.
func inTrouble(s *Sink) bool {
	st := s.Stats()
	return !st.Up && !errors.Is(st.Err, errUnheard)
}

// Records that wait for a topic are delivered when the topic is created.
func TestUnknownTopic(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log logBuffer
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Topic: "zeek-{path}",
		Logger: log.logger()})
	r := newResults(t)
	for i := range 10 {
		s.Send(testkit.Context(t), r.entry("n", batch(t, "p", i)))
		s.Send(testkit.Context(t), r.entry("m", batch(t, "p", i+10)))
	}
	testkit.Eventually(t, "trouble", func() bool { return inTrouble(s) })
	if st := s.Stats(); !errors.Is(st.Err, kerr.UnknownTopicOrPartition) ||
		!strings.Contains(st.Err.Error(), "zeek-p") {
		t.Errorf("%+v", st)
	}
	if r.done != 0 {
		t.Errorf("%d entries are done", r.done)
	}
	if err := c.CreateTopic("zeek-p", 1, nil); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	shut(t, s)
	if log.count(begins) != 1 || log.count(ends) != 1 {
		t.Errorf("logged:\n%s", log.b.String())
	}
	consume(t, c, 20, []string{"zeek-p"})
}

// The sink goes on when a topic is deleted and created anew under the same name.
func TestTopicRecreated(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "zeek"))
	s := newTestSink(t, Config{Brokers: c.ListenAddrs()})
	r := newResults(t)
	s.Send(testkit.Context(t), r.entry("n", batch(t, "p", 0)))
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	if err := c.DeleteTopic("zeek"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("zeek", 2, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		s.Send(testkit.Context(t), r.entry("n", batch(t, "p", i)))
	}
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	shut(t, s)
	checkFlow(t, consume(t, c, 20, []string{"zeek"}), 20, false)
}

// If a broker refuses a record batch, only the faulty records are refused. The others keep their
// order.
func TestRefused(t *testing.T) {
	bad := func(n int) bool { return n%100 == 7 || n == 550 || n == 551 }
	for _, test := range []struct {
		err  *kerr.Error
		want pipeline.Reason
	}{
		{kerr.MessageTooLarge, pipeline.ReasonTooLarge},
		{kerr.RecordListTooLarge, pipeline.ReasonTooLarge},
		{kerr.InvalidRecord, pipeline.ReasonRejected},
		{kerr.InvalidTimestamp, pipeline.ReasonRejected},
	} {
		t.Run(test.err.Message, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "zeek"))
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: test.err, Count: -1,
				When: func(req kmsg.Request) bool {
					for _, n := range produced(t, req) {
						if bad(n) {
							return true
						}
					}
					return false
				}})
			s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Compression: CompressionNone})
			r := newResults(t)
			const batches, size = 20, 50
			for i := range batches {
				s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(i*size, size)...)))
				// this flow shares their record batches
				s.Send(testkit.Context(t), r.entry("other", batch(t, "p", numbers(10000+i*size,
					size)...)))
			}
			testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
			shut(t, s)
			var want []int
			refused := uint64(0)
			for n := range batches * size {
				if !bad(n) {
					want = append(want, n)
				} else {
					refused++
				}
			}
			for n := range batches * size {
				if !bad(10000 + n) {
					want = append(want, 10000+n)
				} else {
					refused++
				}
			}
			if len(r.refused) != 1 || r.refused[test.want] != refused || len(r.failed()) != 0 {
				t.Errorf("refused %v, want %d; errors %v", r.refused, refused, r.failed())
			}
			if st := s.Stats(); st.Records != uint64(len(want)) || !st.Up {
				t.Errorf("%+v, want %d records", st, len(want))
			}
			var got []int
			for _, m := range consume(t, c, len(want), []string{"zeek"}) {
				got = append(got, numberOf(t, m.value))
			}
			// each flow is in order
			slices.SortStableFunc(got, func(a, b int) int { return a/10000 - b/10000 })
			if !slices.Equal(got, want) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// produced returns the numbers of the records in an uncompressed request.
func produced(t testing.TB, req kmsg.Request) (all []int) {
	for _, topic := range req.(*kmsg.ProduceRequest).Topics {
		for _, p := range topic.Partitions {
			for rest := p.Records; ; {
				_, after, ok := bytes.Cut(rest, []byte(`"n":`))
				if !ok {
					break
				}
				digits, _, _ := bytes.Cut(after, []byte(","))
				n, err := strconv.Atoi(string(digits))
				if err != nil {
					t.Error(err)
				}
				all = append(all, n)
				rest = after
			}
		}
	}
	return all
}

// wideBatch returns a batch of one record with a string of the given size.
func wideBatch(t testing.TB, size int) []byte {
	t.Helper()
	s := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Path: "p",
		Fields: []zeek.Field{{Name: "s", Type: zeek.TypeString}}}
	raw, err := zeek.AppendBatch(nil, s, [][]zeek.Value{{zeek.String(strings.Repeat("s", size))}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The topic has a real limit, and a record is larger than a record batch may be.
func TestTooLarge(t *testing.T) {
	c := newCluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "3000"}),
		kfake.SeedTopics(1, "zeek"))
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Compression: CompressionNone,
		MaxBatchBytes: 20000})
	r := newResults(t)
	for i := range 10 {
		s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(i*30, 30)...)))
	}
	s.Send(testkit.Context(t), r.entry("n", wideBatch(t, 4000)))  // too large for the broker
	s.Send(testkit.Context(t), r.entry("n", wideBatch(t, 30000))) // too large for the client
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	shut(t, s)
	if r.refused[pipeline.ReasonTooLarge] != 2 || len(r.refused) != 1 {
		t.Errorf("refused %v: %v", r.refused, r.reasons)
	}
	checkFlow(t, consume(t, c, 300, []string{"zeek"}), 300, false)
}

// A whole cluster goes away and comes back at the same address. No record is missing, and order is
// kept.
func TestClusterRestart(t *testing.T) {
	dir := t.TempDir()
	ports := []int{testkit.ReservePort(t), testkit.ReservePort(t)}
	open := func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.Ports(ports...), kfake.DataDir(dir),
			kfake.SyncWrites(), kfake.SeedTopics(1, "zeek"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	var log logBuffer
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Logger: log.logger(),
		stallAfter: 50 * time.Millisecond})
	r := newResults(t)
	const rounds, batches, size = 3, 20, 20
	n := 0
	for range rounds {
		for range batches {
			s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(n, size)...)))
			n += size
		}
		c.Close()
		for range batches {
			s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(n, size)...)))
			n += size
		}
		testkit.Eventually(t, "trouble", func() bool { return inTrouble(s) })
		if st := s.Stats(); st.Err == nil || time.Since(st.Since) > patience {
			t.Errorf("%+v", st)
		}
		c = open()
		testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	}
	defer c.Close()
	shut(t, s)
	if errs := r.failed(); len(errs) > 0 || len(r.refused) > 0 {
		t.Errorf("errors %v, refused %v", errs, r.refused)
	}
	if b, e := log.count(begins), log.count(ends); b != e || b < rounds || b > 2*rounds {
		t.Errorf("logged:\n%s", log.b.String())
	}
	var stored int
	for _, p := range c.PartitionInfos("zeek") {
		stored += int(p.HighWatermark)
	}
	checkFlow(t, consume(t, c, stored, []string{"zeek"}), n, true)
}

// Brokers that come, go and hand over partitions while records flow.
func TestLeadersMove(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "zeek"))
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Linger: time.Millisecond})
	r := newResults(t)
	const steps, size = 60, 20
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range steps {
		s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(i*size, size)...)))
		switch rng.IntN(4) {
		case 0:
			c.ShufflePartitionLeaders()
		case 1:
			node, _, err := c.AddNode(-1, 0)
			if err != nil {
				t.Fatal(err)
			}
			s.Send(testkit.Context(t), r.entry("other", batch(t, "q", 1e6+i)))
			if err := c.RemoveNode(node); err != nil {
				t.Fatal(err)
			}
		case 2:
			testkit.Eventually(t, "delivery", func() bool { return r.left() < 3 })
		}
	}
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	shut(t, s)
	var flow []message
	stored := 0
	for _, p := range c.PartitionInfos("zeek") {
		stored += int(p.HighWatermark)
	}
	for _, m := range consume(t, c, stored, []string{"zeek"}) {
		if numberOf(t, m.value) < 1e6 {
			flow = append(flow, m)
		}
	}
	checkFlow(t, flow, steps*size, false)
}

// Many faults, many flows, keys that spread: every record arrives, in order except in the
// documented cases.
func TestStorm(t *testing.T) {
	const nodes, batches, size = 6, 30, 20
	c := newCluster(t, kfake.SeedTopics(4, "zeek-p"))
	errs := []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas,
		kerr.TopicAuthorizationFailed, kerr.CorruptMessage,
		kerr.UnknownTopicOrPartition, kerr.MessageTooLarge, kerr.NetworkException}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, e := range errs {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: 5,
			When: func(req kmsg.Request) bool {
				// A single record must not be called too large: the sink would refuse it.
				return rng.IntN(3) == 0 && (e != kerr.MessageTooLarge || len(produced(t, req)) > 1)
			}})
	}
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Topic: "zeek-{path}",
		Compression: CompressionNone, MaxBuffered: 64 << 10})
	r := newResults(t)
	var senders sync.WaitGroup
	for node := range nodes {
		senders.Go(func() {
			for i := range batches {
				s.Send(testkit.Context(t),
					r.entry(fmt.Sprint("node", node),
						batch(t, "p", numbers(node*1e6+i*size, size)...)))
			}
		})
	}
	senders.Wait()
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	shut(t, s)
	if errs := r.failed(); len(errs) > 0 || len(r.refused) > 0 {
		t.Errorf("errors %v, refused %v", errs, r.refused)
	}
	seen := map[int]int{}
	for _, m := range consume(t, c, nodes*batches*size, []string{"zeek-p"}) {
		seen[numberOf(t, m.value)]++
	}
	for node := range nodes {
		for i := range batches * size {
			if seen[node*1e6+i] != 1 {
				t.Errorf("record %d of node %d has arrived %d times", i, node, seen[node*1e6+i])
			}
		}
	}
}

// While the broker is slow, Send waits for memory until its context ends. Later everything arrives.
func TestBackPressure(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "zeek"))
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), MaxBuffered: 20000,
		stallAfter: 10 * time.Millisecond,
		options:    []kgo.Opt{kgo.RequestTimeoutOverhead(patience)}})
	r := newResults(t)
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		s.Send(ctx, r.entry("n", batch(t, "p", numbers(sent, 10)...)))
		full := ctx.Err() != nil
		cancel()
		if full {
			break
		}
		sent += 10
		if sent > 1000 {
			t.Fatal("Send has returned without waiting for memory")
		}
	}
	if errs := r.failed(); len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) {
		t.Errorf("errors %v", errs)
	}
	if st := s.Stats(); st.Buffered == 0 || st.Buffered > 20000 {
		t.Errorf("%+v", st)
	}
	testkit.Eventually(t, "trouble", func() bool { return inTrouble(s) })
	close(release)
	s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(sent, 10)...)))
	shut(t, s)
	checkFlow(t, consume(t, c, sent+10, []string{"zeek"}), sent+10, false)
}

// Close gives up when its context ends, whatever the brokers do. Every entry is then done with an
// error.
func TestCloseGivesUpWhenItsContextEnds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	})
	for name, address := range map[string]func(t *testing.T) string{
		"nobody there": func(t *testing.T) string {
			return fmt.Sprint("127.0.0.1:", testkit.ReservePort(t))
		},
		"no answer": func(*testing.T) string { return silent.Addr().String() },
		"dies": func(t *testing.T) string {
			c := newCluster(t, kfake.NumBrokers(1))
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				go c.Close()
				return nil, errors.New("dies"), true
			})
			return c.ListenAddrs()[0]
		},
		"refuses": func(t *testing.T) string {
			c := newCluster(t, kfake.NumBrokers(1))
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed,
				Count: -1})
			return c.ListenAddrs()[0]
		},
		"never acknowledges": func(t *testing.T) string {
			c := newCluster(t, kfake.NumBrokers(1))
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				return nil, nil, true
			})
			return c.ListenAddrs()[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			s := newTestSink(t, Config{Brokers: []string{address(t)},
				stallAfter: 20 * time.Millisecond, Logger: log.logger(), MaxBuffered: 1 << 20})
			r := newResults(t)
			const batches = 20
			for i := range batches {
				s.Send(testkit.Context(t), r.entry(fmt.Sprint("node", i%3), batch(t, "p", i)))
			}
			testkit.Eventually(t, "trouble", func() bool { return inTrouble(s) })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), fmt.Sprint(batches, " batches")) {
				t.Errorf("Close: %v", err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("Close took %v", d)
			}
			if n := len(r.failed()); n != batches || r.left() != 0 {
				t.Errorf("%d entries failed, %d are not done", n, r.left())
			}
			if n := log.count(begins); n == 0 || n > 2 {
				t.Errorf("logged:\n%s", log.b.String())
			}
		})
	}
	silent.Close()
	accepted.Wait()
}
