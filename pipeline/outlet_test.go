package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline/pipelinetest"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// handSink is a sink that does only what its test tells it.
type handSink struct {
	mu   sync.Mutex
	held []*Entry // sent to it and not done
	sent []string // all entries sent to it, in order
}

func (s *handSink) Send(_ context.Context, e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, e)
	s.sent = append(s.sent, entryName(e))
}

func (s *handSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.held {
		e.Done(errors.New("not delivered"))
	}
	s.held = nil
	return nil
}

// deliver ends the i-th held entry and returns its text.
func (s *handSink) deliver(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held[i]
	s.held = slices.Delete(s.held, i, i+1)
	text := entryName(e) // its memory may be invalid after Done
	e.Done(nil)
	return text
}

func (s *handSink) holds() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// renderEntry returns the text of a batch's records.
func renderEntry(e *Entry) (string, error) {
	schema, err := zeek.ParseSchema(e.Batch.Header)
	if err != nil {
		return "", err
	}
	render, err := zeek.NewRenderer(schema, zeek.DefaultOptions())
	if err != nil {
		return "", err
	}
	text, _, err := render.AppendRecords(nil, e.Batch)
	return string(text), err
}

// entryName returns the path of a batch and the first word of its record.
func entryName(e *Entry) string {
	text, err := renderEntry(e)
	if err != nil {
		return err.Error()
	}
	number, _, _ := strings.Cut(text, " ")
	return string(e.Batch.Path) + " " + number
}

// offer puts a batch of one record into an outlet, as a Receiver does.
func offer(t testing.TB, o *Outlet, source, path string, number, size int) {
	t.Helper()
	parts := pipelinetest.Message(t, source, "Test::LOG", path, "line",
		fmt.Sprintf("%06d %s", number, strings.Repeat("x", size)))
	b, e := ParseMessage(parts)
	if e != nil {
		t.Fatal(e)
	}
	node, raw := slices.Clone(parts[1]), parts[3]
	memory := newShared(func() { // a sink that uses it afterwards must be noticed
		clear(raw)
		clear(node)
	})
	o.put(source, KeyOf(b), node, raw, b, memory)
	memory.release()
}

// outletStep is one step of the model test.
type outletStep struct {
	What         string
	Source, Path string
	Size         int
	Which        int // modulo the number of held entries
}

// Whatever is put into an outlet goes to the sink in the order of its source and path. It is
// delivered once if all processes ended in order. If one was killed, it is delivered at least once
// if it was in the spool then. At every moment all messages are in the accounts.
func TestOutletModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) outletStep {
			return outletStep{
				What: rapid.SampledFrom([]string{"put", "put", "put", "deliver", "deliver",
					"deliver", "restart", "kill"}).Draw(rt, "what"),
				Source: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "source"),
				Path:   rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "path"),
				Size:   rapid.SampledFrom([]int{0, 100, 900, 3000}).Draw(rt, "size"),
				Which:  rapid.IntRange(0, 20).Draw(rt, "which"),
			}
		}), 1, 60).Draw(rt, "steps")
		dir, err := os.MkdirTemp("", "outlet")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var problem error
		synctest.Test(t, func(t *testing.T) { problem = (&outletModel{t: t, dir: dir}).run(steps) })
		if problem != nil {
			rt.Fatal(problem)
		}
	})
}

// outletModel says what an outlet must do.
type outletModel struct {
	t         *testing.T
	dir       string
	processes int // number of killed processes
	sink      *handSink
	outlet    *Outlet
	next      map[string]int
	expected  map[string]bool // texts that must be delivered
	delivered map[string]int
}

const modelWindow = 2000

func (m *outletModel) spoolDir() string { return filepath.Join(m.dir, fmt.Sprint(m.processes)) }

func (m *outletModel) open() (err error) {
	m.sink = &handSink{}
	m.outlet, err = NewOutlet(m.sink, OutletConfig{Name: "test", MaxBytes: modelWindow,
		Spool: &spool.Config{Dir: m.spoolDir(), SegmentBytes: 1500, SyncInterval: time.Hour}})
	return err
}

func (m *outletModel) run(steps []outletStep) error {
	m.next, m.expected, m.delivered = map[string]int{}, map[string]bool{}, map[string]int{}
	if err := m.open(); err != nil {
		return err
	}
	defer m.close()
	for i, s := range steps {
		err := m.step(s)
		if err == nil {
			err = m.check()
		}
		if err != nil {
			return fmt.Errorf("step %d, %+v: %w", i, s, err)
		}
	}
	for m.sink.holds() > 0 {
		m.delivered[m.sink.deliver(0)]++
		if err := m.check(); err != nil {
			return fmt.Errorf("delivering the rest: %w", err)
		}
	}
	if st := m.outlet.Stats(); st.Queued != (Counts{}) || st.Spooling || st.Spool.Records != 0 {
		return fmt.Errorf("all is delivered, but the accounts say %+v, %+v", st, st.Spool)
	}
	for _, text := range slices.Sorted(maps.Keys(m.expected)) {
		if n := m.delivered[text]; n == 0 || n > 1 && m.processes == 0 {
			return fmt.Errorf("%s was delivered %d times", text, n)
		}
	}
	return nil
}

func (m *outletModel) close() error {
	ended, cancel := context.WithCancel(m.t.Context())
	cancel()
	return m.outlet.Close(ended)
}

func (m *outletModel) step(s outletStep) error {
	switch s.What {
	case "put":
		path := s.Path + s.Source // so that the text shows the flow
		offer(m.t, m.outlet, s.Source, path, m.next[path], s.Size)
		m.expected[fmt.Sprintf("%s %06d", path, m.next[path])] = true
		m.next[path]++
	case "deliver":
		if n := m.sink.holds(); n > 0 {
			m.delivered[m.sink.deliver(s.Which%n)]++
		}
	case "restart":
		if err := m.close(); err != nil {
			return err
		}
		if err := m.outlet.Stats().Check(); err != nil {
			return err
		}
		return m.open()
	case "kill":
		// A kill leaves the files as the system has them. What is only in memory may be lost.
		m.outlet.mu.Lock()
		for _, it := range m.outlet.unspooled() {
			delete(m.expected, entryName(&it.Entry))
		}
		m.outlet.mu.Unlock()
		before := m.spoolDir()
		m.processes++
		if err := os.CopyFS(m.spoolDir(), os.DirFS(before)); err != nil {
			return err
		}
		if err := m.close(); err != nil {
			return err
		}
		return m.open()
	}
	return nil
}

// check checks what must hold at every moment.
func (m *outletModel) check() error {
	synctest.Wait()
	st := m.outlet.Stats()
	if err := st.Check(); err != nil {
		return err
	}
	if st.WindowBytes > modelWindow+4000 { // plus one batch
		return fmt.Errorf("%d bytes in the window", st.WindowBytes)
	}
	if !st.Spooling && st.Queued.Messages != uint64(m.sink.holds()) {
		return fmt.Errorf("%d queued, the sink holds %d and nothing is spooled", st.Queued.Messages,
			m.sink.holds())
	}
	last := map[string]string{}
	m.sink.mu.Lock()
	defer m.sink.mu.Unlock()
	for _, text := range m.sink.sent {
		path, number, _ := strings.Cut(text, " ")
		if last[path] >= number {
			return fmt.Errorf("%s: %s was sent after %s", path, number, last[path])
		}
		last[path] = number
	}
	return nil
}

// newOutlet returns an outlet that is closed at the end of the test unless the test closes it.
func newOutlet(t *testing.T, sink Sink, cfg OutletConfig) *Outlet {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	o, err := NewOutlet(sink, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, o) })
	return o
}

// closeNow closes an outlet without waiting for its sink.
func closeNow(t *testing.T, o *Outlet) error {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	return o.Close(ended)
}

// A dead sink with a spool delays no other sink. Without a spool it does, since nothing may be
// lost.
func TestOutletDeadSinkDelaysNobody(t *testing.T) {
	for _, spooled := range []bool{true, false} {
		t.Run(fmt.Sprintf("spool=%v", spooled), func(t *testing.T) {
			cfg := OutletConfig{Name: "dead", MaxBytes: 10_000}
			if spooled {
				cfg.Spool = &spool.Config{Dir: t.TempDir()}
			}
			dead := &handSink{}
			deadOutlet := newOutlet(t, dead, cfg)
			s := serve(t, zmtp.Config{}, deadOutlet)
			push := s.connect(t)
			const messages = 100
			for i := range messages {
				m := pipelinetest.Message(t, "node", "Test::LOG", "test", "line",
					fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
				if err := push.Send(t.Context(), zmtp.NewMessage(m...)); err != nil {
					t.Fatal(err)
				}
			}
			if spooled {
				testkit.Eventually(t, "all delivered",
					func() bool { return s.outlet.Stats().Written.Messages == messages })
			} else {
				testkit.Eventually(t, "the nodes to wait",
					func() bool { return deadOutlet.Stats().Waiting != nil })
				testkit.Eventually(t, "all to be delivered", func() bool {
					for dead.holds() > 0 {
						dead.deliver(0)
					}
					return deadOutlet.Stats().Written.Messages == messages
				})
			}
			if err := s.receiver.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.close(t)
			if err := closeNow(t, deadOutlet); err != nil {
				t.Errorf("Close: %v", err)
			}
			checkAccounts(t, deadOutlet.Stats().Accounts)
			if st := deadOutlet.Stats(); spooled && st.Queued.Messages != messages || !spooled &&
				st.Written.Messages != messages {
				t.Errorf("%+v", st)
			}
		})
	}
}

// In a full spool the oldest batches make room, and are counted for their node and path. Batches
// that the sink has are not among them.
func TestOutletDropsOldest(t *testing.T) {
	sink := &handSink{}
	o := newOutlet(t, sink, OutletConfig{Name: "test", MaxBytes: 2000, DropOldest: true,
		Spool: &spool.Config{Dir: t.TempDir(), MaxBytes: 100_000, SegmentBytes: 10_000}})
	const messages = 500
	for i := range messages {
		offer(t, o, "node", "test", i, 1000)
	}
	var got []string
	for o.Stats().Queued.Messages > 0 {
		if sink.holds() > 0 {
			got = append(got, sink.deliver(0))
		}
	}
	st := o.Stats()
	checkAccounts(t, st.Accounts)
	dropped := st.Dropped[ReasonSpoolFull]
	if dropped.Messages == 0 || dropped.Messages+st.Written.Messages != messages ||
		len(got) != int(st.Written.Messages) {
		t.Errorf("%d written, %d dropped, %d delivered of %d", st.Written.Messages,
			dropped.Messages, len(got), messages)
	}
	if st.Logs[0].ByReason[ReasonSpoolFull] != dropped ||
		st.Senders[0].ByReason[ReasonSpoolFull] != dropped {
		t.Errorf("by log %+v, by sender %+v, want %+v", st.Logs, st.Senders, dropped)
	}
	if !slices.IsSorted(got) || got[0] != "test 000000" || got[len(got)-1] != "test 000499" {
		t.Errorf("%d delivered, from %s to %s", len(got), got[0], got[len(got)-1])
	}
}

// Without a spool, put waits for room. At the end of the time the rest is lost and counted, and
// Close returns an error.
func TestOutletGivesUp(t *testing.T) {
	sink := &handSink{}
	o := newOutlet(t, sink, OutletConfig{Name: "test", MaxBytes: 3000})
	var putting sync.WaitGroup
	putting.Go(func() {
		for i := range 10 {
			offer(t, o, "node", "test", i, 1000)
		}
	})
	testkit.Eventually(t, "the queue to be full",
		func() bool { return o.Stats().Waiting != nil && sink.holds() == 2 })
	sink.deliver(0)
	testkit.Eventually(t, "room to be used",
		func() bool { return o.Stats().Received.Messages == 4 })
	o.giveUp()
	putting.Wait()
	err := closeNow(t, o)
	lost, ok := errors.AsType[*UndeliveredError](err)
	st := o.Stats()
	checkAccounts(t, st.Accounts)
	if !ok || st.Written.Messages != 1 || st.Queued.Messages != 0 ||
		st.Dropped[ReasonGivenUp].Messages != 9 || lost.Lost.Messages == 0 {
		t.Errorf("%v: %+v", err, st)
	}
}

// refuser is a sink that refuses records.
type refuser struct{ records uint64 }

func (r refuser) Send(_ context.Context, e *Entry) {
	e.Refuse(r.records, Drop(ReasonTooLarge, "too large"))
	e.Done(nil)
}

func (refuser) Close(context.Context) error { return nil }

// A sink may refuse some or all records of a batch, but no more.
func TestOutletRefusals(t *testing.T) {
	for records, want := range map[uint64][2]Counts{
		0: {{1, 3}, {0, 0}},
		2: {{1, 1}, {0, 2}},
		3: {{0, 0}, {1, 3}},
		9: {{0, 0}, {1, 3}},
	} {
		o := newOutlet(t, refuser{records}, OutletConfig{Name: "test"})
		parts := pipelinetest.Message(t, "node", "Test::LOG", "test", "line", "a", "b", "c")
		b, e := ParseMessage(parts)
		if e != nil {
			t.Fatal(e)
		}
		o.put("node", KeyOf(b), parts[1], parts[3], b, newShared(func() {}))
		if err := o.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := o.Stats()
		checkAccounts(t, st.Accounts)
		if st.Written != want[0] || st.Dropped[ReasonTooLarge] != want[1] {
			t.Errorf("%d refused: %+v", records, st)
		}
	}
}
