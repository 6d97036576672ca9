package stdout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry returns an entry with a record for each number, and the channel for its outcome.
func entry(t testing.TB, path string, from, n int) (*pipeline.Entry, chan outcome) {
	t.Helper()
	s := &zeek.Schema{Stream: "T::LOG", Writer: "Log::WRITER_ASCII", Path: path,
		Fields: []zeek.Field{{Name: "n", Type: zeek.TypeCount}}}
	var records [][]zeek.Value
	for i := range n {
		records = append(records, []zeek.Value{zeek.Count(uint64(from + i))})
	}
	raw, err := zeek.AppendBatch(nil, s, records)
	if err != nil {
		t.Fatal(err)
	}
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan outcome, 2)
	return pipeline.NewEntry([]byte("node"), b, func(refused []pipeline.Refusal, err error) {
		clear(raw)
		done <- outcome{refused, err}
	}), done
}

type outcome struct {
	refused []pipeline.Refusal
	err     error
}

// send sends n records and returns the error with which the entry was done.
func send(t testing.TB, ctx context.Context, s *Sink, path string, from, n int) error {
	t.Helper()
	e, done := entry(t, path, from, n)
	s.Send(ctx, e)
	select {
	case o := <-done:
		if len(o.refused) > 0 || len(done) > 0 {
			t.Errorf("refused %v, done %d times", o.refused, 1+len(done))
		}
		return o.err
	default:
		t.Error("Send has returned before the entry was done")
		return nil
	}
}

func newSink(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func want(from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"_path":"p","n":%d}`+"\n", from+i)
	}
	return b.String()
}

// The lines of a batch stand together, and each sender's batches stay in order.
func TestManySenders(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(t, Config{Writer: w})
	const senders, batches, size = 4, 50, 20
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for b := range batches {
				if err := send(t, t.Context(), s, fmt.Sprint("path", i), b*size, size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.Close()
	}()
	next := map[string]int{}
	d := json.NewDecoder(r)
	for i := 0; ; i++ {
		var rec struct {
			Path string `json:"_path"`
			N    int
		}
		if err := d.Decode(&rec); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if rec.N != next[rec.Path] {
			t.Fatalf("%s: record %d, want %d", rec.Path, rec.N, next[rec.Path])
		}
		next[rec.Path]++
	}
	for i := range senders {
		if n := next[fmt.Sprint("path", i)]; n != batches*size {
			t.Errorf("sender %d: %d records were written", i, n)
		}
	}
	if st := s.Stats(); st.Records != senders*batches*size || st.Bytes == 0 || !st.Up {
		t.Errorf("%+v", st)
	}
}

// flaky is a writer that takes part of what it is given, and fails.
type flaky struct {
	bytes.Buffer
	rng *rand.Rand
}

var errFull = errors.New("disk full")

func (f *flaky) Write(b []byte) (int, error) {
	n := len(b)
	if f.rng.IntN(2) == 0 {
		n = f.rng.IntN(len(b) + 1)
	}
	f.Buffer.Write(b[:n])
	if n < len(b) && (n == 0 || f.rng.IntN(2) == 0) {
		return n, errFull
	}
	return n, nil
}

// Even with a writer that takes any part of a write, every line is written once and whole.
func TestShortWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := &flaky{rng: rand.New(rand.NewPCG(1, 2))}
		s := newSink(t, Config{Writer: w, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for i := range 100 {
			if err := send(t, t.Context(), s, "p", i*10, 10); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.String(); got != want(0, 1000) {
			t.Errorf("%q", got)
		}
		if fails, again := strings.Count(log.String(), "cannot be"),
			strings.Count(log.String(), "again\" after"); fails == 0 || fails != again {
			t.Errorf("%d failures and %d recoveries are logged", fails, again)
		}
	})
}

// script is a writer that first does what each entry of a list says, and then takes everything.
type script struct {
	bytes.Buffer
	steps []func(b []byte) (int, error)
}

func (s *script) Write(b []byte) (int, error) {
	if len(s.steps) == 0 {
		return s.Buffer.Write(b)
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	n, err := step(b)
	s.Buffer.Write(b[:n])
	return n, err
}

// A batch that is given up in the middle of a line is delivered again, and the line is not torn.
func TestGivenUpInALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &script{}
		for range 10 {
			w.steps = append(w.steps, func(b []byte) (int, error) { return 0, errFull })
		}
		w.steps = append([]func([]byte) (int,
			error){func(b []byte) (int, error) { return bytes.IndexByte(b, '\n') + 5, errFull }},
			w.steps...)
		s := newSink(t, Config{Writer: w})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := send(t, ctx, s, "p", 0, 3); !errors.Is(err, errFull) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if st := s.Stats(); st.Up || !errors.Is(st.Err, errFull) || st.Records != 0 {
			t.Errorf("%+v", st)
		}
		if err := send(t, t.Context(), s, "p", 0, 3); err != nil {
			t.Error(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := w.String(), want(0, 2)+want(0, 3); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Close ends a line that was begun.
func TestLineEndedByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &script{steps: []func([]byte) (int,
			error){func(b []byte) (int, error) { cancel(); return 5, errFull }}}
		s := newSink(t, Config{Writer: w})
		if err := send(t, ctx, s, "p", 0, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := w.String(), want(0, 1); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// The end of the reader is logged once. From then on entries are given up at once, with ErrGone.
func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var log bytes.Buffer
	s := newSink(t, Config{Writer: w, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := send(t, t.Context(), s, "p", 0, 3); err != nil {
		t.Fatal(err)
	}
	r.Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := send(t, t.Context(), s, "p", 3, 3); !errors.Is(err, syscall.EPIPE) ||
				!errors.Is(err, pipeline.ErrGone) {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Up || !errors.Is(st.Err, syscall.EPIPE) || st.Records != 3 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("logged:\n%s", log.String())
	}
}

// limitWriter keeps all bytes and the size of the largest write. After fail bytes it fails.
type limitWriter struct {
	bytes.Buffer
	largest, fail int
	failed        chan struct{} // closed at the first failure
}

func (w *limitWriter) Write(b []byte) (int, error) {
	w.largest = max(w.largest, len(b))
	if room := w.fail - w.Len(); room < len(b) {
		w.Buffer.Write(b[:max(room, 0)])
		if w.failed != nil {
			failed := w.failed
			w.failed = nil
			close(failed)
		}
		return max(room, 0), errFull
	}
	return w.Buffer.Write(b)
}

// A batch with a long text is written in several pieces, and nothing is written between them.
func TestLongText(t *testing.T) {
	const n = 100_000
	w := &limitWriter{fail: math.MaxInt}
	s := newSink(t, Config{Writer: w})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := send(t, t.Context(), s, "p", i*n, n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Records != 3*n || st.Bytes != uint64(w.Len()) {
		t.Errorf("%+v, %d bytes", st, w.Len())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for text := w.String(); text != ""; {
		var from int
		if _, err := fmt.Sscanf(text, `{"_path":"p","n":%d}`, &from); err != nil {
			t.Fatal(err)
		}
		var ok bool
		if text, ok = strings.CutPrefix(text, want(from, n)); !ok {
			t.Fatalf("the batch from %d on is torn", from)
		}
	}
	if w.largest > zeek.PieceBytes+zeek.PieceBytes/4 {
		t.Errorf("the largest write has %d bytes", w.largest)
	}
}

// A long text that is given up ends with a whole line, wherever the write failed.
func TestLongTextGivenUp(t *testing.T) {
	const n = 100_000
	all := want(0, n)
	for _, fail := range []int{0, 1, zeek.PieceBytes - 1, zeek.PieceBytes + 12345, 2*zeek.PieceBytes + 3} {
		w := &limitWriter{fail: fail, failed: make(chan struct{})}
		s := newSink(t, Config{Writer: w})
		ctx, cancel := context.WithCancel(t.Context())
		failed := w.failed
		go func() {
			<-failed
			cancel()
		}()
		if err := send(t, ctx, s, "p", 0, n); !errors.Is(err, context.Canceled) {
			t.Errorf("failure after %d bytes: error %v", fail, err)
		}
		if err := s.Close(t.Context()); err != nil { // waits for the goroutine
			t.Error(err)
		}
		if got := w.String(); got != all[:fail] {
			t.Errorf("failure after %d bytes: %d bytes are written", fail, len(got))
		}
		if rest := string(s.rest); fail > 0 && !strings.HasPrefix(all[fail:], rest) ||
			strings.Count(rest, "\n") > 1 ||
			fail > 0 && all[fail-1] != '\n' && !strings.HasSuffix(rest, "\n") {
			t.Errorf("failure after %d bytes: the line goes on with %q", fail, rest)
		}
		cancel()
	}
}

// A write that does not return delays neither the end of Send at its context's end nor Close.
func TestHangingWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := &script{steps: []func([]byte) (int,
			error){func(b []byte) (int, error) { <-release; return len(b), nil }}}
		s := newSink(t, Config{Writer: w})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			<-time.After(30 * time.Second)
			if st := s.Stats(); st.Up || time.Since(st.Since) != 30*time.Second {
				t.Errorf("%+v", st)
			}
		}()
		if err := send(t, ctx, s, "p", 0, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := send(t, ctx, s, "p", 0, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		close(release)
		synctest.Wait()
		if got := w.String(); got != want(0, 3) {
			t.Errorf("%q", got)
		}
	})
}

// A batch that cannot be rendered is refused. One without records is done.
func TestRefused(t *testing.T) {
	var w bytes.Buffer
	s := newSink(t, Config{Writer: &w})
	e, done := entry(t, "p", 0, 3)
	e.Batch.Values = e.Batch.Values[:len(e.Batch.Values)-1]
	s.Send(t.Context(), e)
	if o := <-done; o.err != nil || len(o.refused) != 1 || o.refused[0].Records != 3 ||
		o.refused[0].Why.Reason != pipeline.BatchReason(zeek.ReasonTruncated) {
		t.Errorf("%+v", o)
	}
	if err := send(t, t.Context(), s, "p", 0, 0); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if w.Len() != 0 {
		t.Errorf("%q", w.String())
	}
}

func TestNewErrors(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no error without a writer")
	}
	if _, err := New(Config{Writer: io.Discard, Format: &zeek.Options{}}); err == nil ||
		!strings.Contains(err.Error(), "separator") {
		t.Errorf("error %v", err)
	}
}

// Texts that wait for a slow reader count in the memory budget and are bounded, for any number of
// logs. All memory is returned. The same text is written if the budget has no memory.
func TestMemory(t *testing.T) {
	for _, limit := range []int64{256 << 20, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := memory.New(limit, nil)
				w := &slowWriter{pause: time.Minute}
				s, err := New(Config{Writer: w, Memory: budget})
				if err != nil {
					t.Fatal(err)
				}
				const logs, records = 60, 20_000 // each text is most of a piece
				var sending sync.WaitGroup
				for i := range logs {
					sending.Go(func() {
						if err := send(t, t.Context(), s, fmt.Sprint("p", i), 0,
							records); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				got, most := budget.Stats().ByKind["stdout"], int64(maxTexts)
				if limit == 1 {
					most = minTexts
				}
				if got != s.quota.Used() || got > most || got < 1<<20 {
					t.Errorf("%d bytes count in the budget and %d are held, want at most %d", got,
						s.quota.Used(), most)
				}
				sending.Wait()
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if n := w.lines; n != logs*records {
					t.Errorf("%d lines, want %d", n, logs*records)
				}
				if st := budget.Stats(); st.Used != 0 || st.Holders != 0 {
					t.Errorf("at the end %d bytes are used by %d holders", st.Used, st.Holders)
				}
			})
		})
	}
}

// slowWriter counts the lines that are written to it, and each write takes it a while.
type slowWriter struct {
	pause time.Duration
	lines int
}

func (w *slowWriter) Write(b []byte) (int, error) {
	time.Sleep(w.pause)
	w.lines += bytes.Count(b, []byte{'\n'})
	return len(b), nil
}
