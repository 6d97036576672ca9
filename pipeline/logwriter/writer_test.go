package logwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/zmtptest"
)

// numbered is a record with a number.
type numbered struct {
	From uint64 `zeek:"from"`
	N    uint64 `zeek:"n"`
	Text string `zeek:"text"`
}

// numbers returns the column n of the records in a message.
func numbers(tb testing.TB, m zmtp.Message) (all []uint64) {
	tb.Helper()
	_, records := decode(tb, m.Part(3))
	for _, r := range records {
		all = append(all, r[1].Num)
	}
	return all
}

// wantMessage takes the next message, which must have the records.
func wantMessage(tb testing.TB, q queue, want ...uint64) {
	tb.Helper()
	select {
	case m := <-q:
		if got := numbers(tb, m); fmt.Sprint(got) != fmt.Sprint(want) {
			tb.Fatalf("the message has records %v, want %v", got, want)
		}
	default:
		tb.Fatalf("there is no message, want one with records %v", want)
	}
}

func wantNoMessage(tb testing.TB, q queue) {
	tb.Helper()
	select {
	case m := <-q:
		tb.Fatalf("there is a message with records %v, want none", numbers(tb, m))
	default:
	}
}

func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errEnded)
	return ctx
}

var errEnded = errors.New("the test's context has ended")

func TestMessage(t *testing.T) {
	q := make(queue, 1)
	w := newWriter[numbered](t, q,
		Config{Node: "probe", Stream: "My::LOG", Path: "my", Filter: "f",
			Writer: "Log::WRITER_NONE"})
	write(t, w, numbered{1, 2, "x"})
	flush(t, w)
	m := <-q
	schema := &zeek.Schema{Stream: "My::LOG", Path: "my", Filter: "f", Writer: "Log::WRITER_NONE",
		Fields: []zeek.Field{
			{Name: "from", Type: zeek.TypeCount}, {Name: "n", Type: zeek.TypeCount},
			{Name: "text", Type: zeek.TypeString}}}
	batch, err := zeek.AppendBatch(nil, schema,
		[][]zeek.Value{{zeek.Count(1), zeek.Count(2), zeek.String("x")}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{
		[]byte("log-write"), []byte("probe"), []byte("zeek-bin-serializer"), batch,
	} {
		if got := m.Part(i); !bytes.Equal(got, want) {
			t.Errorf("part %d: %q, want %q", i, got, want)
		}
	}
	if m.NumParts() != 4 {
		t.Errorf("%d parts, want 4", m.NumParts())
	}
	if s := w.Schema(); s.Stream != "My::LOG" || !s.SameColumns(schema) {
		t.Errorf("schema %v", s)
	}
}

// A full batch is sent without a call of Flush.
func TestBatchSize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue, 10)
		w := newWriter[numbered](t, q, Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 3})
		for i := range uint64(7) {
			write(t, w, numbered{N: i})
		}
		synctest.Wait()
		wantMessage(t, q, 0, 1, 2)
		wantMessage(t, q, 3, 4, 5)
		wantNoMessage(t, q)
		if s := w.Stats(); s != (Stats{Written: 7, Sent: 6, Batches: 2}) {
			t.Errorf("stats %+v", s)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantMessage(t, q, 6)
		if s := w.Stats(); s != (Stats{Written: 7, Sent: 7, Batches: 3}) {
			t.Errorf("stats after Close %+v", s)
		}
	})
}

// No message is larger than BatchBytes, except one with a single record.
func TestBatchBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 2000
		q := make(queue, 100)
		w := newWriter[numbered](t, q,
			Config{Node: "n", Stream: "S::LOG", Path: "p", BatchBytes: limit})
		sizes := []int{10, 500, 1000, 1, 5000, 3, 3, 1700, 900, 900, 10000, 10000, 0}
		for i, n := range sizes {
			write(t, w, numbered{N: uint64(i), Text: strings.Repeat("x", n)})
		}
		flush(t, w)
		next, single := uint64(0), 0
		for range len(q) {
			m := <-q
			got := numbers(t, m)
			if len(m.Wire()) > limit {
				single++
				if len(got) != 1 {
					t.Errorf("a message of %d bytes has %d records", len(m.Wire()), len(got))
				}
			}
			for _, n := range got {
				if n != next {
					t.Fatalf("record %d, want %d", n, next)
				}
				next++
			}
		}
		if int(next) != len(sizes) || single != 3 {
			t.Errorf("%d records, %d of them larger than BatchBytes; want %d and 3", next, single,
				len(sizes))
		}
	})
}

// The first record of a batch waits for the flush interval, which begins with it.
func TestFlushInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue, 10)
		w := newWriter[numbered](t, q,
			Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 3,
				FlushInterval: time.Second})
		elapse := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		elapse(10 * time.Second)
		wantNoMessage(t, q)
		write(t, w, numbered{N: 1})
		elapse(999 * time.Millisecond)
		write(t, w, numbered{N: 2})
		wantNoMessage(t, q)
		elapse(time.Millisecond)
		wantMessage(t, q, 1, 2)

		// A batch that becomes full before stops the timer.
		write(t, w, numbered{N: 3})
		elapse(500 * time.Millisecond)
		write(t, w, numbered{N: 4}, numbered{N: 5}, numbered{N: 6})
		synctest.Wait()
		wantMessage(t, q, 3, 4, 5)
		elapse(900 * time.Millisecond)
		wantNoMessage(t, q)
		elapse(100 * time.Millisecond)
		wantMessage(t, q, 6)
		elapse(10 * time.Second)
		wantNoMessage(t, q)
	})
}

// While no message can be sent, there is room for two batches. Then Write waits until its context
// ends.
func TestBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue)
		w := newWriter[numbered](t, q, Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 2})
		for i := range uint64(4) {
			write(t, w, numbered{N: i})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if err := w.Write(ctx, numbered{N: 99}); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(begin) != time.Minute {
			t.Errorf("Write: %v after %v", err, time.Since(begin))
		}
		if err := w.Write(ended(), numbered{N: 99}); err != errEnded {
			t.Errorf("Write with a context that has ended: %v", err)
		}
		if err := w.Flush(ended()); err != errEnded {
			t.Errorf("Flush with a context that has ended: %v", err)
		}
		if s := w.Stats(); s != (Stats{Written: 4}) {
			t.Errorf("stats %+v", s)
		}

		written := make(chan error)
		go func() { written <- w.Write(t.Context(), numbered{N: 4}) }()
		synctest.Wait()
		select {
		case err := <-written:
			t.Errorf("Write has returned without waiting: %v", err)
		default:
		}
		if got := numbers(t, <-q); fmt.Sprint(got) != "[0 1]" {
			t.Errorf("first message %v", got)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		if got := numbers(t, <-q); fmt.Sprint(got) != "[2 3]" {
			t.Errorf("second message %v", got)
		}
		closed := make(chan error)
		go func() { closed <- w.Close(t.Context()) }()
		if got := numbers(t, <-q); fmt.Sprint(got) != "[4]" {
			t.Errorf("third message %v", got)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// Records that a Flush left behind are sent as soon as there is room, without another call.
func TestFlushGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue)
		w := newWriter[numbered](t, q, Config{})
		write(t, w, numbered{N: 1})
		if err := w.Flush(ended()); err != errEnded {
			t.Errorf("Flush: %v", err)
		}
		begin := time.Now()
		if got := numbers(t, <-q); fmt.Sprint(got) != "[1]" || time.Since(begin) > 0 {
			t.Errorf("%v after %v", got, time.Since(begin))
		}
	})
}

// With a context that has ended, Write takes records while there is room, and sends what can be
// sent at once.
func TestWriteWithoutWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue, 1)
		w := newWriter[numbered](t, q, Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 2})
		taken := 0
		for i := range uint64(100) {
			if err := w.Write(ended(), numbered{N: i}); err == nil {
				taken++
			} else if err != errEnded {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if taken != 6 {
			t.Errorf("%d records were taken, want 6", taken)
		}
		// The goroutine sends the rest.
		var got []uint64
		for range 3 {
			synctest.Wait()
			got = append(got, numbers(t, <-q)...)
		}
		if fmt.Sprint(got) != "[0 1 2 3 4 5]" {
			t.Errorf("sent %v", got)
		}
	})
}

// The error of Close says how many records are lost. After Close, Write takes no records.
func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := make(queue)
		w := newWriter[numbered](t, q, Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 2})
		write(t, w, numbered{N: 0}, numbered{N: 1}, numbered{N: 2})
		waiting := make(chan error)
		go func() {
			if err := w.Write(t.Context(), numbered{N: 3}); err != nil {
				t.Error(err)
			}
			waiting <- w.Write(t.Context(), numbered{N: 4})
		}()
		synctest.Wait()
		err := w.Close(ended())
		if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "4 records were not sent") {
			t.Errorf("Close: %v", err)
		}
		if err := w.Write(t.Context(), numbered{}); err != ErrClosed {
			t.Errorf("Write after Close: %v", err)
		}
		again := make(chan error)
		go func() { again <- w.Close(t.Context()) }()
		for _, want := range []string{"[0 1]", "[2 3]"} {
			if got := numbers(t, <-q); fmt.Sprint(got) != want {
				t.Errorf("after Close: %v, want %v", got, want)
			}
		}
		if err := <-again; err != nil {
			t.Errorf("second Close: %v", err)
		}
		if err := <-waiting; err != ErrClosed {
			t.Errorf("Write during Close: %v", err)
		}
	})
}

// A call of Write that waits returns at once when Close is called, whichever goroutine is sending.
// Close goes on sending.
func TestCloseDuringWrite(t *testing.T) {
	for range 20 {
		bubble(t, func(t *testing.T) {
			q := make(queue)
			w := newWriter[numbered](t, q,
				Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 2})
			write(t, w, numbered{N: 0})
			w.Flush(ended()) // wakes the goroutine; the second Write below may be faster
			write(t, w, numbered{N: 1}, numbered{N: 2})
			const waiting = 3
			results := make(chan error, waiting)
			for range waiting - 1 {
				go func() { results <- w.Write(t.Context(), numbered{N: 3}) }()
			}
			go func() {
				synctest.Wait()
				go func() { results <- w.Close(t.Context()) }()
			}()
			if err := w.Write(t.Context(), numbered{N: 3}); err != ErrClosed {
				t.Errorf("Write during Close: %v", err)
			}
			for range waiting - 1 {
				if err := <-results; err != ErrClosed {
					t.Errorf("Write during Close: %v", err)
				}
			}
			synctest.Wait()
			if len(results) > 0 {
				t.Fatalf("Close has returned without waiting: %v", <-results)
			}
			for _, want := range []string{"[0]", "[1 2]"} {
				if got := numbers(t, <-q); fmt.Sprint(got) != want {
					t.Errorf("sent %v, want %s", got, want)
				}
			}
			if err := <-results; err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// If the socket is closed, the Writer ends with its error.
func TestSenderClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		w := newWriter[numbered](t, push,
			Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 2})
		push.Close()
		write(t, w, numbered{}, numbered{})
		synctest.Wait()
		if err := w.Write(t.Context(), numbered{}); !errors.Is(err, zmtp.ErrClosed) {
			t.Errorf("Write: %v", err)
		}
		if err := w.Flush(t.Context()); !errors.Is(err, zmtp.ErrClosed) {
			t.Errorf("Flush: %v", err)
		}
		if err := w.Close(t.Context()); !errors.Is(err, zmtp.ErrClosed) ||
			!strings.Contains(err.Error(), "2 records") {
			t.Errorf("Close: %v", err)
		}
	})
}

// limitMessages lowers the limit of a log message to 8 MiB, to save time and memory.
func limitMessages(t *testing.T) {
	before := maxMessage
	maxMessage = 8 << 20
	t.Cleanup(func() { maxMessage = before })
}

// A refused record leaves nothing in the batch, and the batch keeps no memory of its size.
func TestRefusedRecord(t *testing.T) {
	limitMessages(t)
	bubble(t, func(t *testing.T) {
		q := make(queue, 10)
		w := newWriter[numbered](t, q, Config{Node: "n", Stream: "S::LOG", Path: "p"})
		large := strings.Repeat("x", maxMessage-50)
		for _, text := range []string{large, large + large} {
			for i := range uint64(2) {
				err := w.Write(t.Context(), numbered{Text: text})
				if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxMessage)) {
					t.Fatalf("a record of %d bytes: %v", len(text), err)
				}
				if c := cap(w.batch.buf); c > 1<<20 {
					t.Errorf("the batch keeps %d bytes", c)
				}
				write(t, w, numbered{N: i})
			}
		}
		flush(t, w)
		wantMessage(t, q, 0, 1, 0, 1)

		write(t, w, numbered{N: 2}, numbered{N: 3, Text: large[:len(large)-1000]}, numbered{N: 4})
		flush(t, w)
		for n := uint64(2); n <= 4; n++ {
			m := <-q
			if c := cap(m.Wire()); c > 2*len(m.Wire())+128<<10 {
				t.Errorf("a message of %d bytes keeps %d", len(m.Wire()), c)
			}
			if got := numbers(t, m); len(got) != 1 || got[0] != n {
				t.Errorf("record %v, want %d", got, n)
			}
		}
	})
}

// A value that is too large is refused before all of it is copied.
func TestRefusedEarly(t *testing.T) {
	limitMessages(t)
	type record struct {
		S string        `zeek:"s"`
		L []string      `zeek:"l"`
		N []namedString `zeek:"n"`
		M []*uint64     `zeek:"m"`
	}
	part := strings.Repeat("x", maxMessage/2+1)
	for name, r := range map[string]record{
		"text":   {S: part + part},
		"vector": {L: []string{part, part, part, part}},
		"by slot": {N: []namedString{namedString(part), namedString(part), namedString(part),
			namedString(part)}},
		"of holes": {M: make([]*uint64, 2*maxMessage/9)},
	} {
		_, cols, err := compile(reflect.ValueOf(&r).Elem())
		if err != nil {
			t.Fatal(err)
		}
		b, err := cols.append(nil)
		if !errors.Is(err, errTooLarge) || len(b) > maxMessage+maxMessage/100 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// The Writer keeps no reference to a record.
func TestWriterKeepsNoReferenceToRecords(t *testing.T) {
	type record struct {
		P    *string           `zeek:"p"`
		B    []byte            `zeek:"b"`
		L    []string          `zeek:"l"`
		M    map[string]int    `zeek:"-"`
		Sub  *connID           `zeek:"sub"`
		Pl   *[]connState      `zeek:"pl"`
		Keys map[int8]struct{} `zeek:"keys"`
	}
	w := newWriter[record](t, discard{}, Config{})
	text := "x"
	write(t, w, record{P: &text, B: []byte("y"), L: []string{"z"}, Sub: &connID{},
		Pl: &[]connState{"s"}, Keys: map[int8]struct{}{1: {}}})
	if r := *w.record; r.P != nil || r.B != nil || r.L != nil || r.M != nil || r.Sub != nil ||
		r.Pl != nil || r.Keys != nil {
		t.Errorf("the Writer still refers to %+v", r)
	}
}

// slowSender has room now and then. It fails the test if two messages are sent at the same time.
type slowSender struct {
	queue
	busy atomic.Bool
	t    *testing.T
}

func (s *slowSender) Send(ctx context.Context, m zmtp.Message) error {
	if s.busy.Swap(true) {
		s.t.Error("two messages are sent at the same time")
	}
	defer s.busy.Store(false)
	return s.queue.Send(ctx, m)
}

// Many goroutines write, flush, give up and try again. Each record that was taken arrives once, and
// those of one goroutine in order.
func TestConcurrent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const writers, records = 8, 300
		s := &slowSender{queue: make(queue, 1), t: t}
		w := newWriter[numbered](t, s,
			Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 7,
				FlushInterval: time.Millisecond})

		var arrived [writers][]uint64
		stop := make(chan struct{})
		var receiver sync.WaitGroup
		receiver.Go(func() {
			for {
				select {
				case m := <-s.queue:
					_, batch := decode(t, m.Part(3))
					for _, r := range batch {
						arrived[r[0].Num] = append(arrived[r[0].Num], r[1].Num)
					}
					time.Sleep(time.Millisecond)
				case <-stop:
					return
				}
			}
		})
		var taken [writers][]uint64
		var writing sync.WaitGroup
		for from := range uint64(writers) {
			writing.Go(func() {
				for n := uint64(0); len(taken[from]) < records; n++ {
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					switch {
					case from == 0:
						ctx = ended()
						time.Sleep(100 * time.Microsecond)
					case from == 1:
						ctx, cancel = context.WithTimeout(t.Context(), 500*time.Microsecond)
					case n%50 == 0:
						_ = w.Flush(ctx)
					}
					if err := w.Write(ctx, numbered{from, n, ""}); err == nil {
						taken[from] = append(taken[from], n)
					} else if from > 1 {
						t.Errorf("writer %d: %v", from, err)
						cancel()
						return
					}
					cancel()
				}
			})
		}
		writing.Wait()
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		close(stop)
		receiver.Wait()

		total := 0
		for from := range arrived {
			total += len(taken[from])
			if fmt.Sprint(arrived[from]) != fmt.Sprint(taken[from]) {
				t.Errorf("writer %d: %d records taken, %d arrived, or the order is wrong", from,
					len(taken[from]), len(arrived[from]))
			}
		}
		if s := w.Stats(); s.Written != uint64(total) || s.Sent != uint64(total) {
			t.Errorf("stats %+v, want %d records", s, total)
		}
	})
}

// A logger that starts late and reads slowly gets everything in order, through sockets.
func TestPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := new(zmtptest.Network)
		push := zmtp.NewPush(zmtp.Config{SendHWM: 2,
			Dial: func(ctx context.Context, _, address string) (net.Conn,
				error) {
				return n.Dial(ctx, address)
			}}, zmtp.PushOptions{})
		defer push.Close()
		if err := push.Connect("tcp://logger:1"); err != nil {
			t.Fatal(err)
		}
		w := newWriter[numbered](t, push,
			Config{Node: "n", Stream: "S::LOG", Path: "p", BatchSize: 10})
		const records = 1000
		var writing sync.WaitGroup
		writing.Go(func() {
			for i := range uint64(records) {
				if err := w.Write(t.Context(), numbered{N: i}); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if s := w.Stats(); s != (Stats{Written: 40, Sent: 20, Batches: 2}) {
			t.Errorf("without a logger: %+v", s)
		}

		pull := zmtp.NewPull(zmtp.Config{RecvHWM: 1})
		defer pull.Close()
		l, err := n.Listen("logger:1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pull.Serve(l); err != nil {
			t.Fatal(err)
		}
		next := uint64(0)
		for next < records {
			m, err := pull.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range numbers(t, m) {
				if got != next {
					t.Fatalf("record %d, want %d", got, next)
				}
				next++
			}
		}
		writing.Wait()
	})
}
