package logtap

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/forwarder/event"
	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector collects published messages.
type collector struct {
	mu   sync.Mutex
	msgs [][]string
	err  error
	gate chan struct{} // nil, or to be received from
}

func (c *collector) publish(b *zmtp.Batch) error {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range b.Messages() {
		var parts []string
		for p := range m.Parts() {
			parts = append(parts, string(p))
		}
		c.msgs = append(c.msgs, parts)
	}
	return c.err
}

// send sends batches and waits until the sink is done with them.
func send(t *testing.T, s *Sink, batches ...[]byte) {
	t.Helper()
	var done sync.WaitGroup
	for _, b := range batches {
		batch, err := zeek.ParseBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		done.Add(1)
		s.Send(testkit.Context(t), pipeline.NewEntry([]byte("node"), batch,
			func([]pipeline.Refusal, error) { done.Done() }))
	}
	done.Wait()
}

// batch returns a batch with columns of the types of the values, named c0, c1 and so on.
func batch(t *testing.T, path string, records ...[]zeek.Value) []byte {
	t.Helper()
	s := &zeek.Schema{Stream: "X::LOG", Writer: "Log::WRITER_ASCII", Filter: "default", Path: path}
	for i, v := range records[0] {
		f := zeek.Field{Name: "c" + string(rune('0'+i)), Type: v.Type, Optional: true}
		if len(v.Elems) > 0 {
			f.Subtype = v.Elems[0].Type
		}
		s.Fields = append(s.Fields, f)
	}
	b, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTypes(t *testing.T) {
	c := &collector{}
	s := New(Config{Paths: []string{"conn"}, Publish: c.publish})
	addr := netip.MustParseAddr("192.0.2.1")
	send(t, s, batch(t, "conn", []zeek.Value{zeek.Time(1700000000.5), zeek.Bool(true),
		zeek.Int(-1), zeek.Count(2), zeek.String("x\n"), zeek.Enum("A::B"),
		zeek.Port(53, zeek.ProtoUDP), zeek.Subnet(netip.MustParsePrefix("10.0.0.0/8")),
		zeek.Set(zeek.Addr(addr)), zeek.Interval(0.25)}, []zeek.Value{zeek.Unset(zeek.TypeTime),
		zeek.Unset(zeek.TypeBool), zeek.Unset(zeek.TypeInt), zeek.Count(3),
		zeek.Unset(zeek.TypeString), zeek.Unset(zeek.TypeEnum), zeek.Unset(zeek.TypePort),
		zeek.Unset(zeek.TypeSubnet), zeek.Unset(zeek.TypeSet), zeek.Unset(zeek.TypeInterval)}),
		batch(t, "dns", []zeek.Value{zeek.Count(1)}))
	s.Close(t.Context())
	if len(c.msgs) != 2 {
		t.Fatalf("%d messages, want 2", len(c.msgs))
	}
	m := c.msgs[0]
	if m[0] != "zeek.logs.conn" || m[1] != "node" || m[2] != event.JSONName {
		t.Errorf("the parts are %q", m)
	}
	for _, want := range []string{
		`{"@data-type":"string","data":"zmtpd_log"}`,
		`{"key":{"@data-type":"string","data":"c0"},` +
			`"value":{"@data-type":"timestamp","data":"2023-11-14T22:13:20.500"}}`,
		`"value":{"@data-type":"boolean","data":true}`,
		`"value":{"@data-type":"integer","data":-1}`,
		`"value":{"@data-type":"string","data":"x\n"}`,
		`"value":{"@data-type":"enum-value","data":"A::B"}`,
		`"value":{"@data-type":"port","data":"53/udp"}`,
		`"value":{"@data-type":"subnet","data":"10.0.0.0/8"}`,
		`"value":{"@data-type":"set","data":[{"@data-type":"address","data":"192.0.2.1"}]}`,
		`"value":{"@data-type":"timespan","data":"250ms"}`,
	} {
		if !strings.Contains(m[3], want) {
			t.Errorf("%s is missing in %s", want, m[3])
		}
	}
	body, err := event.ParseJSON(nil, []byte(c.msgs[1][3]))
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	var path string
	var record map[string]any
	if err := e.Decode(&path, &record); err != nil || path != "conn" || len(record) != 1 ||
		record["c3"] != uint64(3) {
		t.Errorf("%v: path %q, record %v", err, path, record)
	}
	if st := s.Stats(); st != (Stats{Published: 2}) {
		t.Errorf("%+v", st)
	}
}

// TestGolden publishes the logs of a real cluster.
func TestGolden(t *testing.T) {
	c := &collector{}
	s := New(Config{Paths: []string{"conn", "dns", "http", "ssl", "files", "weird"},
		Publish: c.publish})
	want := uint64(0)
	msgs := testkit.Messages(t, "cluster-logs")
	for _, m := range msgs[:min(len(msgs), 2000)] {
		if b, err := zeek.ParseBatch(m[3]); err == nil && s.paths[string(b.Path)] {
			want += uint64(b.NumRecords)
			send(t, s, m[3])
		}
	}
	s.Close(t.Context())
	if st := s.Stats(); want == 0 || st != (Stats{Published: want}) || uint64(len(c.msgs)) != want {
		t.Errorf("%+v of %d records, %d messages", st, want, len(c.msgs))
	}
	for _, m := range c.msgs {
		body, err := event.ParseJSON(nil, []byte(m[3]))
		if err == nil {
			_, err = event.ParseEvent(body)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, m[3])
		}
	}
}

// TestBacklog: a publisher that does not keep up holds up no batch, and what is lost is counted.
func TestBacklog(t *testing.T) {
	c := &collector{gate: make(chan struct{})}
	s := New(Config{Paths: []string{"conn"}, Publish: c.publish})
	one := batch(t, "conn", []zeek.Value{zeek.String(strings.Repeat("x", 1<<20))})
	b, err := zeek.ParseBatch(one)
	if err != nil {
		t.Fatal(err)
	}
	const batches = 20
	for range batches {
		s.Send(testkit.Context(t), pipeline.NewEntry(nil, b, func([]pipeline.Refusal, error) {}))
	}
	close(c.gate)
	s.Close(context.Background())
	st := s.Stats()
	if st.Backlog == 0 || st.Published == 0 || st.Backlog+st.Published != batches {
		t.Errorf("%+v of %d", st, batches)
	}
}

// TestUnwanted: records that nobody has subscribed are not converted.
func TestUnwanted(t *testing.T) {
	s := New(Config{Paths: []string{"conn", "dns"}, Publish: (&collector{}).publish,
		Wanted: func(topic []byte) bool { return string(topic) == "zeek.logs.dns" }})
	for _, path := range []string{"conn", "dns"} {
		send(t, s, batch(t, path, []zeek.Value{zeek.Count(1)}, []zeek.Value{zeek.Count(2)}))
	}
	s.Close(t.Context())
	if st := s.Stats(); st != (Stats{Published: 2, Unwanted: 2}) {
		t.Errorf("%+v", st)
	}
}
