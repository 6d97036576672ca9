package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
)

// These tests kill the process of an Outlet: the test starts itself as a child.

const childEnv = "ZMTPD_OUTLET_CHILD"

// childSink prints each entry. At an entry whose number is in fatal it kills the process.
type childSink struct {
	mu    sync.Mutex
	ready chan struct{} // closed when it may begin
	slow  time.Duration
	fatal string
}

func (s *childSink) Send(_ context.Context, e *Entry) {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	text := entryName(e)
	fmt.Println("sending", text)
	if s.fatal != "" && strings.HasSuffix(text, s.fatal) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	time.Sleep(s.slow)
	fmt.Println("delivered", text)
	e.Done(nil)
}

func (s *childSink) Close(context.Context) error { return nil }

// putNumber puts a batch of one record into an outlet.
func putNumber(o *Outlet, number int) {
	s := &zeek.Schema{Stream: "Test::LOG", Writer: writerASCII, Path: "test",
		Fields: []zeek.Field{{Name: "line", Type: zeek.TypeString}}}
	raw, err := zeek.AppendBatch(nil, s,
		[][]zeek.Value{{zeek.String(fmt.Sprintf("%06d %s", number, strings.Repeat("x", 500)))}})
	if err != nil {
		panic(err)
	}
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		panic(err)
	}
	o.put("node", KeyOf(b), []byte("node"), raw, b, newShared(func() {}))
}

// deliverAll delivers until the queue is empty, and returns the texts.
func deliverAll(o *Outlet, sink *handSink) (texts []string) {
	for o.Stats().Queued.Messages > 0 {
		if sink.holds() > 0 {
			texts = append(texts, sink.deliver(0))
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	return texts
}

// runOutletChild is the main function of the child. The environment says what to do.
func runOutletChild(mode string) {
	dir := os.Getenv("ZMTPD_OUTLET_DIR")
	sink := &childSink{ready: make(chan struct{})}
	cfg := OutletConfig{Name: "child", MaxBytes: 20_000, SpoolFirst: true,
		Spool:  &spool.Config{Dir: dir},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if mode == "fatal" {
		sink.fatal = "000007"
	} else {
		sink.slow = 3 * time.Millisecond
	}
	o, err := NewOutlet(sink, cfg)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("recovered", o.Stats().Received.Messages)
	switch mode {
	case "fatal":
		if o.Stats().Received.Messages == 0 { // only in the first process
			for i := range 20 {
				putNumber(o, i)
			}
		}
		close(sink.ready)
		for o.Stats().Queued.Messages > 0 {
			time.Sleep(time.Millisecond)
		}
		st := o.Stats()
		fmt.Println("aside", st.Dropped[ReasonSetAside].Messages, st.Accounts.Check())
		if err := o.Close(context.Background()); err != nil {
			fmt.Println("error", err)
		}
		fmt.Println("end")
	case "counted":
		close(sink.ready)
		received := o.Stats().Received.Messages
		for i := 0; ; i++ {
			putNumber(o, os.Getpid()%1000*1000+i)
			if now := o.Stats().Received.Messages; now > received {
				received = now
				fmt.Println("counted", fmt.Sprintf("test %06d", os.Getpid()%1000*1000+i))
			}
		}
	}
}

// child runs the test as a child until it ends, and calls line for each line that it prints.
func child(t *testing.T, mode, dir string, line func(cmd *exec.Cmd, what, rest string)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+mode, "ZMTPD_OUTLET_DIR="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		line(cmd, what, rest)
	}
	_ = cmd.Wait()
}

// A record in the spool that kills the process kills two processes. The third one sets it aside in
// a file, counts it, and delivers all others.
func TestFatalRecordIsSetAside(t *testing.T) {
	dir := t.TempDir()
	delivered := map[string]bool{}
	ended := false
	for starts := 1; !ended; starts++ {
		child(t, "fatal", dir, func(_ *exec.Cmd, what, rest string) {
			switch what {
			case "delivered":
				delivered[rest] = true
			case "aside":
				if rest != "1 <nil>" || starts != 3 {
					t.Errorf("start %d: set aside, accounts: %s", starts, rest)
				}
			case "error":
				t.Error(rest)
			case "end":
				ended = true
			}
		})
		if starts > 3 {
			t.Fatal("the processes go on dying")
		}
	}
	for i := range 20 {
		if text := fmt.Sprintf("test %06d", i); delivered[text] != (i != 7) {
			t.Errorf("%s: delivered %v", text, delivered[text])
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "aside", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts, err := recording.NewReader(f).Next()
	if err != nil {
		t.Fatal(err)
	}
	if b, drop := ParseMessage(parts); drop != nil ||
		!strings.Contains(string(b.Values), "000007") {
		t.Errorf("%q, %v", parts, drop)
	}
}

// With SpoolFirst, every message that was counted as received when the process was killed is
// delivered by that process or a later one, or kept in a file.
func TestSpoolFirstSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	counted, delivered := map[string]bool{}, map[string]bool{}
	for range 6 {
		left := 20 + rand.IntN(200)
		child(t, "counted", dir, func(cmd *exec.Cmd, what, rest string) {
			switch what {
			case "counted":
				counted[rest] = true
				if left--; left == 0 {
					_ = cmd.Process.Kill()
				}
			case "delivered":
				delivered[rest] = true
			case "error":
				t.Error(rest)
			}
		})
	}
	sink := &handSink{}
	o := newOutlet(t, sink, OutletConfig{Name: "last", Spool: &spool.Config{Dir: dir}})
	for _, text := range deliverAll(o, sink) {
		delivered[text] = true
	}
	// A record that was being delivered at two kills may have been set aside.
	files, err := filepath.Glob(filepath.Join(dir, "aside", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var aside strings.Builder
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		aside.Write(content)
	}
	for text := range counted {
		if _, number, _ := strings.Cut(text, " "); !delivered[text] &&
			!strings.Contains(aside.String(), number) {
			t.Errorf("%s was counted and is lost", text)
		}
	}
	if len(counted) < 100 {
		t.Errorf("only %d messages were counted", len(counted))
	}
}

// goneSink delivers some entries and then reports ErrGone.
type goneSink struct {
	mu   sync.Mutex
	left int
}

func (s *goneSink) Send(_ context.Context, e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		e.Done(fmt.Errorf("test: %w", ErrGone))
		return
	}
	s.left--
	e.Done(nil)
}

func (s *goneSink) Close(context.Context) error { return nil }

// When a sink is gone for good, Gone is called once. No sender waits for the sink any more. What it
// has not delivered is in the spool, or counted as lost.
func TestOutletGone(t *testing.T) {
	for _, spooled := range []bool{false, true} {
		for _, first := range []bool{false, true} {
			if first && !spooled {
				continue
			}
			t.Run(fmt.Sprintf("spool=%v first=%v", spooled, first), func(t *testing.T) {
				told := make(chan error, 2)
				cfg := OutletConfig{Name: "gone", MaxBytes: 5000, SpoolFirst: first,
					Gone: func(err error) { told <- err }}
				if spooled {
					cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 100_000}
				}
				o := newOutlet(t, &goneSink{left: 3}, cfg)
				const messages = 200 // more than memory and spool can hold
				for i := range messages {
					offer(t, o, "node", "test", i, 1000)
				}
				select {
				case err := <-told:
					if !errors.Is(err, ErrGone) {
						t.Error(err)
					}
				case <-time.After(time.Minute):
					t.Fatal("Gone was not called")
				}
				err := o.Close(t.Context())
				st := o.Stats()
				checkAccounts(t, st.Accounts)
				dropped := st.Dropped[ReasonGivenUp].Messages
				if st.Written.Messages != 3 || len(told) != 0 || dropped == 0 ||
					st.Received.Messages != messages {
					t.Errorf("%+v, Gone was called %d times more", st, len(told))
				}
				if _, lost := errors.AsType[*UndeliveredError](err); lost && spooled ||
					st.Queued.Messages > 0 != spooled {
					t.Errorf("queued %d, error %v", st.Queued.Messages, err)
				}
			})
		}
	}
}

// cpuTime returns the CPU time that the process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A batch larger than the spool goes to the sink if memory has room for it. Else it is dropped and
// counted. It delays no other batch.
func TestBatchLargerThanSpool(t *testing.T) {
	for _, first := range []bool{false, true} {
		sink := &handSink{}
		o := newOutlet(t, sink, OutletConfig{Name: "test", MaxBytes: 3000, SpoolFirst: first,
			Spool: &spool.Config{Dir: t.TempDir(), MaxBytes: 20_000}})
		const large = 50_000
		offer(t, o, "node", "test", 0, large)
		for i := range 5 {
			offer(t, o, "node", "test", 1+i, 1000)
		}
		offer(t, o, "node", "test", 6, large)
		offer(t, o, "node", "test", 7, 1000)
		want := 2 // number of dropped batches
		if !first {
			want = 1
		}
		got := deliverAll(o, sink)
		if len(got) != 8-want || !slices.IsSorted(got) {
			t.Errorf("first=%v: delivered %q", first, got)
		}
		st := o.Stats()
		checkAccounts(t, st.Accounts)
		if st.Dropped[ReasonTooLarge].Messages != uint64(want) {
			t.Errorf("first=%v: %+v", first, st)
		}
	}
}

// A stuck Outlet uses no processor time, in any state.
func TestStuckOutletRests(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  OutletConfig
		dir  spool.Config
		size int
	}{
		"sink down, no spool": {cfg: OutletConfig{MaxBytes: 5000}, size: 1000},
		"sink down, spool": {cfg: OutletConfig{MaxBytes: 5000},
			dir: spool.Config{MaxBytes: 1 << 30}, size: 1000},
		"sink down, spool first": {cfg: OutletConfig{MaxBytes: 5000, SpoolFirst: true},
			dir: spool.Config{MaxBytes: 1 << 30}, size: 1000},
		"spool full": {cfg: OutletConfig{MaxBytes: 5000},
			dir: spool.Config{MaxBytes: 20_000}, size: 1000},
		"spool first, full": {cfg: OutletConfig{MaxBytes: 5000, SpoolFirst: true},
			dir: spool.Config{MaxBytes: 20_000}, size: 1000},
		"batches too large for it": {cfg: OutletConfig{MaxBytes: 5000},
			dir: spool.Config{MaxBytes: 2000}, size: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			if c.dir.MaxBytes > 0 {
				c.dir.Dir = t.TempDir()
				c.cfg.Spool = &c.dir
			}
			c.cfg.Name = "stuck"
			o := newOutlet(t, &handSink{}, c.cfg)
			var putting sync.WaitGroup
			var put int
			var mu sync.Mutex
			ctx, stop := context.WithCancel(t.Context())
			putting.Go(func() {
				for i := 0; i < 100 && ctx.Err() == nil; i++ {
					offer(t, o, "node", "test", i, c.size)
					mu.Lock()
					put++
					mu.Unlock()
				}
			})
			last := -1
			for quiet := 0; quiet < 20; { // until nothing changes any more
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				if quiet++; put != last {
					last, quiet = put, 0
				}
				mu.Unlock()
			}
			const watch = time.Second
			before := cpuTime(t)
			time.Sleep(watch)
			if used := cpuTime(t) - before; used > watch/2 {
				t.Errorf("%v of CPU time in %v", used, watch)
			}
			stop()
			o.giveUp()
			putting.Wait()
			checkAccounts(t, o.Stats().Accounts)
		})
	}
}
