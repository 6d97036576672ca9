package kafka

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// sendGolden sends the messages of a cluster, and returns the lines that a Renderer makes of them,
// by topic.
func sendGolden(t *testing.T, s *Sink, format zeek.Options,
	topic func(path string) string) (want map[string][]string) {
	t.Helper()
	want = map[string][]string{}
	r := newResults(t)
	for _, m := range testkit.Messages(t, "cluster-logs") {
		b, err := zeek.ParseBatch(m[3])
		if err != nil {
			t.Fatal(err)
		}
		schema, err := zeek.ParseSchema(b.Header)
		if err != nil {
			t.Fatal(err)
		}
		render, err := zeek.NewRenderer(schema, format)
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := render.AppendRecords(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if !s.topics.perPath {
				path, _ := json.Marshal(schema.Path)
				line = fmt.Sprintf(`{"_path":%s,%s`, path, line[1:])
			}
			want[topic(schema.Path)] = append(want[topic(schema.Path)], line)
		}
		s.Send(testkit.Context(t), r.entry(string(m[1]), slices.Clone(m[3])))
	}
	shut(t, s)
	if errs := r.failed(); len(errs) > 0 || len(r.refused) > 0 {
		t.Fatalf("errors %v, refused %v: %v", errs, r.refused, r.reasons)
	}
	return want
}

// Kafka has the logs of a Zeek cluster as Zeek's writer writes them, with all choices of topic,
// compression and acknowledgement.
func TestGoldenCluster(t *testing.T) {
	perPath := func(path string) string { return "zeek-" + path }
	one := func(string) string { return "logs" }
	for _, test := range []struct {
		name  string
		cfg   Config
		topic func(string) string
	}{
		{"per path", Config{Topic: "zeek-{path}"}, perPath},
		{"one topic", Config{Topic: "logs"}, one},
		{"gzip", Config{Topic: "logs", Compression: CompressionGzip}, one},
		// One topic only: for each record batch both ends use two blocks of 4 MiB, all of which the
		// race detector checks.
		{"lz4", Config{Topic: "logs", Compression: CompressionLZ4, Key: KeyPath}, one},
		{"zstd", Config{Topic: "logs", Compression: CompressionZstd, Key: KeyNode}, one},
		{"none", Config{Topic: "zeek-{path}", Compression: CompressionNone, Key: KeyField("uid")},
			perPath},
		{"leader", Config{Topic: "logs", Acks: AcksLeader}, one},
		{"no acks", Config{Topic: "logs", Acks: AcksNone, Linger: time.Millisecond}, one},
		{"not idempotent", Config{Topic: "zeek-{path}", NoIdempotence: true, MaxBatchBytes: 32768},
			perPath},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			test.cfg.Brokers = c.ListenAddrs()
			format := zeek.DefaultOptions()
			format.UseJSON = true
			s := newTestSink(t, test.cfg)
			want := sendGolden(t, s, format, test.topic)
			var topics []string
			total, bytes := 0, 0
			for topic, lines := range want {
				topics = append(topics, topic)
				total += len(lines)
				slices.Sort(lines)
				bytes += len(strings.Join(lines, ""))
			}
			if total < 100 {
				t.Fatalf("only %d records were delivered", total)
			}
			if st := s.Stats(); st.Records != uint64(total) || st.Bytes != uint64(bytes) ||
				!st.Up || st.Retries != 0 {
				t.Errorf("%+v, want %d records of %d bytes", st, total, bytes)
			}
			got := map[string][]string{}
			for _, m := range consume(t, c, total, topics) {
				got[m.topic] = append(got[m.topic], m.value)
			}
			for topic, lines := range want {
				slices.Sort(got[topic])
				if !slices.Equal(got[topic], lines) {
					t.Errorf("topic %s differs", topic)
				}
			}
		})
	}
}

// numberOf returns the field n of a record.
func numberOf(t testing.TB, value string) int {
	t.Helper()
	var r struct {
		N *int `json:"n"`
	}
	if err := json.Unmarshal([]byte(value), &r); err != nil || r.N == nil {
		t.Fatalf("record %q: %v", value, err)
	}
	return *r.N
}

// Records of one node and path keep their order, in the partition that their key demands.
func TestKeysAndOrder(t *testing.T) {
	const nodes, batches, size = 5, 20, 50
	for _, key := range []Key{KeyNone, KeyNode, KeyPath, KeyField("uid"), KeyField("missing")} {
		t.Run(key.String(), func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(7, "zeek"))
			s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Key: key})
			r := newResults(t)
			for i := range batches {
				for node := range nodes {
					for path := range 2 {
						// The number shows the flow: millions of node*2+path.
						from := (node*2+path)*1e6 + i*size
						s.Send(testkit.Context(t),
							r.entry(fmt.Sprintf("node-%d", node),
								batch(t, fmt.Sprintf("path-%d", path), numbers(from, size)...)))
					}
				}
			}
			shut(t, s)
			last := map[string]int{}           // by flow, and key if the key is a field
			partitions := map[string][]int32{} // by key, or else by flow
			for _, m := range consume(t, c, nodes*2*batches*size, []string{"zeek"}) {
				n := numberOf(t, m.value)
				flow, wantKey := fmt.Sprint(n/1e6), ""
				switch key {
				case KeyNode:
					wantKey = fmt.Sprintf("node-%d", n/1e6/2)
				case KeyPath:
					wantKey = fmt.Sprintf("path-%d", n/1e6%2)
				case KeyField("uid"):
					wantKey = fmt.Sprintf("C%d", n%7)
					flow += wantKey
				}
				if m.key != wantKey {
					t.Fatalf("record %s has key %q, want %q", m.value, m.key, wantKey)
				}
				if before, ok := last[flow]; ok && n <= before {
					t.Fatalf("flow %s: %d comes after %d", flow, n, before)
				}
				last[flow] = n
				by := wantKey
				if by == "" {
					by = flow
				}
				if !slices.Contains(partitions[by], m.partition) {
					partitions[by] = append(partitions[by], m.partition)
				}
			}
			used := map[int32]bool{}
			for by, p := range partitions {
				if len(p) != 1 {
					t.Errorf("%s is in partitions %v", by, p)
				}
				used[p[0]] = true
			}
			if len(used) < 2 {
				t.Error("all records are in one partition")
			}
		})
	}
}

// The place of a flow must be the same in all versions. Else an upgrade would break the order.
func TestPlaceIsFixed(t *testing.T) {
	if got := (flowKey{"zeek.worker-1", "conn"}).place(); got != 0xf47ab7ac {
		t.Errorf("%#x", got)
	}
}

// A batch that cannot be rendered is refused as a whole.
func TestBadBatch(t *testing.T) {
	c := newCluster(t)
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Topic: "t"})
	r := newResults(t)
	good := batch(t, "conn", 1, 2)
	bad := slices.Clone(good)
	b, err := zeek.ParseBatch(bad)
	if err != nil {
		t.Fatal(err)
	}
	b.Values[len(b.Values)/2] ^= 0xff // in the type of the second record
	s.Send(testkit.Context(t), r.entry("n", batch(t, "conn")))
	s.Send(testkit.Context(t), r.entry("n", bad[:len(bad)-9]))
	s.Send(testkit.Context(t), r.entry("n", good))
	shut(t, s)
	total := uint64(0)
	for _, n := range r.refused {
		total += n
	}
	if total != 2 || len(r.failed()) != 0 || r.done != 3 {
		t.Errorf("refused %v, errors %v, %d done", r.refused, r.failed(), r.done)
	}
	consume(t, c, 2, []string{"t"})
}
