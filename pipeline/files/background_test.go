package files

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/testkit"
)

// expired returns a context that has ended.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// hangingFile hangs in some calls until the test ends that.
type hangingFile struct {
	file
	write, sync <-chan struct{} // closed to end the hanging; nil for none
}

func (f *hangingFile) Write(b []byte) (int, error) {
	if f.write != nil {
		<-f.write
	}
	return f.file.Write(b)
}

func (f *hangingFile) Sync() error {
	if f.sync != nil {
		<-f.sync
	}
	return f.file.Sync()
}

// hanging starts a logger in which the files of log "a" hang.
func hanging(t *testing.T, cfg Config, write, sync <-chan struct{}) *Logger {
	t.Helper()
	l, err := newLogger(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.openFile = func(name string, flag int) (file, error) {
		f, err := l.openInFolder(name, flag)
		if err == nil && strings.HasPrefix(name, "a.") {
			return &hangingFile{f, write, sync}, nil
		}
		return f, err
	}
	go l.runTimer()
	return l
}

// A sync that takes forever delays no log, not even its own.
func TestSyncHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := optionsWith(func(o *redef.Options) { o.RotationInterval = 10 * time.Second })
		letGo := make(chan struct{})
		l := hanging(t, Config{Dir: dir, Options: &o, Location: time.UTC}, nil, letGo)
		for i := range 5 {
			for _, path := range []string{"a", "b"} {
				write(t, l, message(t, "n", "A::LOG", path, "x", fmt.Sprint(i)))
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			b := records(tree(t, dir)[fmt.Sprintf("b.2000-01-01-00-00-%d0.log", i)])
			if len(b) != 1 {
				t.Errorf("rotation %d of b has not happened", i)
			}
		}
		for name := range tree(t, dir) {
			if strings.HasPrefix(name, "a.") {
				t.Errorf("%s has its final name before it is synced", name)
			}
		}
		if st := l.Stats(); st.Rotation.Pending != 5 || st.Written.Records != 10 ||
			st.OpenFiles != 5 {
			t.Errorf("%+v", st)
		}
		close(letGo)
		shut(t, l)
		for i := range 5 {
			a := records(tree(t, dir)[fmt.Sprintf("a.2000-01-01-00-00-%d0.log", i)])
			if !slices.Equal(a, []string{fmt.Sprint(i)}) {
				t.Errorf("file %d of a has %q", i, a)
			}
		}
	})
}

// A write that takes forever holds up its own log, and the senders to it until their contexts end.
// Close ends.
func TestWriteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := optionsWith(func(o *redef.Options) { o.RotationInterval = 10 * time.Second })
		letGo := make(chan struct{})
		l := hanging(t, Config{Dir: dir, Options: &o, Location: time.UTC}, letGo, nil)
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		time.Sleep(2 * time.Second)
		for i := range 3 {
			write(t, l, message(t, "n", "A::LOG", "b", "x", "1"))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := l.Stats().Rotation.Rotated; n != uint64(i+1) {
				t.Errorf("b was rotated %d times, want %d", n, i+1)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		wantDrop(t, l.Write(ctx, message(t, "n", "A::LOG", "a", "x", "2")), pipeline.ReasonWrite)
		if d := time.Since(began); d != time.Minute {
			t.Errorf("Write has waited for %v", d)
		}
		checkBalance(t, l.Stats())
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), `log "a"`) {
			t.Errorf("Close: %v", err)
		}
		if d := time.Since(began); d != time.Minute+await.Grace {
			t.Errorf("Close took %v", d)
		}
		checkBalance(t, l.Stats())
		close(letGo)
		synctest.Wait()
	})
}

// If there are too many logs, idle ones make room for others, and come back.
func TestIdleLogsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, Config{Dir: dir, MaxNodeLogs: 3, Location: time.UTC,
			FlushInterval: time.Minute})
		one := func(path string) error {
			return l.Write(t.Context(), message(t, "n", "A::LOG", path, "x", "1"))
		}
		for i := range 10 {
			for p := range 3 {
				if err := one(fmt.Sprintf("%d-%d", i, p)); err != nil {
					t.Fatalf("path %d-%d: %v", i, p, err)
				}
			}
			wantDrop(t, one("more"), pipeline.ReasonManyFiles)
			time.Sleep(columnsIdle / 2)
			if err := one(fmt.Sprintf("%d-0", i)); err != nil {
				t.Error(err)
			}
			wantDrop(t, one("more"), pipeline.ReasonManyFiles)
			time.Sleep(columnsIdle)
		}
		if err := one("0-0"); err != nil {
			t.Error(err)
		}
		shut(t, l)
		st := l.Stats()
		if len(st.Logs) != 30 || st.Written.Records != 41 {
			t.Errorf("%d logs, written %+v: %+v", len(st.Logs), st.Written, st.Logs)
		}
		var all []string
		for _, content := range tree(t, dir) {
			all = append(all, records(content)...)
		}
		if len(all) != 41 {
			t.Errorf("%d records", len(all))
		}
	})
}

// All logs go to the standard output, with Zeek's path in the header. The lines of a batch stand
// together.
func TestStdout(t *testing.T) {
	dir := t.TempDir()
	o := redefs(t,
		[]byte(`redef LogAscii::output_to_stdout = T; redef Log::default_rotation_interval = 1 sec;`))
	l, err := newLogger(Config{Dir: dir, Options: o, MaxFileSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	out := &haltingWriter{}
	all := &stdout{w: out}
	l.openFile = func(string, int) (file, error) { return all, nil }
	go l.runTimer()
	write(t, l, message(t, "n", "A::LOG", "a", "x", "1", "2"),
		message(t, "n", "B::LOG", "b", "y", "3"), message(t, "n", "A::LOG", "a", "x y", "4"))
	shut(t, l)
	got := out.b.String()
	if r := records(got); len(r) != 4 || strings.Count(got, "#path\t/dev/stdout\n") != 3 ||
		strings.Count(got, "#close") != 3 || !strings.Contains(got, "\n1\n2\n") {
		t.Errorf("output\n%s", got)
	}
	if files := tree(t, dir); len(files) != 0 {
		t.Errorf("files %q", sortedKeys(files))
	}
}

// haltingWriter takes at most 100 bytes at a time, and fails in between.
type haltingWriter struct{ b bytes.Buffer }

func (h *haltingWriter) Write(b []byte) (int, error) {
	n, _ := h.b.Write(b[:min(len(b), 100)])
	if n < len(b) {
		return n, fmt.Errorf("try again")
	}
	return n, nil
}

// Several loggers share an archive, but not a folder.
func TestSeveralLoggers(t *testing.T) {
	parent := t.TempDir()
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.RotationDir = time.Hour, "../rotated"
	})
	var all []*Logger
	for _, name := range []string{"logger-1", "logger-2"} {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Dir: dir, Options: &o, Name: name}
		all = append(all, start(t, cfg))
		if second, err := New(cfg); runtime.GOOS != "windows" &&
			(err == nil || !strings.Contains(err.Error(), "another logger")) {
			t.Errorf("a second logger in one folder: %v, error %v", second, err)
		}
	}
	for i, l := range all {
		write(t, l, message(t, "n", "A::LOG", "a", "x", fmt.Sprint(i)))
	}
	for _, l := range all {
		shut(t, l)
	}
	files := tree(t, parent)
	for i, name := range sortedKeys(files) {
		if !strings.HasSuffix(name, fmt.Sprintf("-logger-%d.log", i+1)) ||
			!slices.Equal(records(files[name]), []string{fmt.Sprint(i)}) {
			t.Errorf("%s holds %q", name, files[name])
		}
	}
	if len(files) != 2 {
		t.Errorf("files %q", sortedKeys(files))
	}
}

func TestConfigRefused(t *testing.T) {
	hourly := func(change func(*redef.Options)) *redef.Options {
		o := optionsWith(func(o *redef.Options) { o.RotationInterval = time.Hour; change(o) })
		return &o
	}
	same := func(*redef.Options) {}
	for want, cfg := range map[string]Config{
		"Config.MaxFileSize: the value is negative": {MaxFileSize: -1},
		"Config.Compress: there is no archive":      {Compress: Compression{Name: "zstd"}},
		"Config.ArchiveMaxAge: there is no archive": {ArchiveMaxAge: 1},
		"Config.Archive: no log would get there":    {Archive: "x"},
		"contradicts": {Archive: "x",
			Options: hourly(func(o *redef.Options) { o.RotationDir = "y" })},
		"contradicts Log": {Archive: "x",
			Options: hourly(func(o *redef.Options) { o.RotationFormat = redef.RotationFormatArchiver })},
		"gzip:10: use a level": {Archive: "x", Options: hourly(same),
			Compress: Compression{"gzip", 10}},
		`compression "lzma"`: {Archive: "x", Options: hourly(same),
			Compress: Compression{"lzma", 1}},
		`"a/b" cannot be the name`:   {Name: "a/b"},
		`"a__b" cannot be the name`:  {Name: "a__b"},
		`"a=b,c" cannot be the name`: {Name: "a=b,c"},
		`"../x" cannot be the name`:  {Name: "../x"},
		"at most 16 are allowed":     {Suffix: strings.Repeat("x", 16)},
		"ZEEK_LOG_SUFFIX":            {Suffix: "a/b"},
	} {
		cfg.Dir = t.TempDir()
		if l, err := New(cfg); err == nil {
			t.Errorf("want an error with %q", want)
			shut(t, l)
		} else if !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

// postprocessing is the configuration of a logger that calls cmd.
func postprocessing(dir, cmd string) Config {
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.PostprocessorCmd = time.Hour, cmd
	})
	return Config{Dir: dir, Options: &o, Location: time.UTC}
}

// A failing post-processor is counted and logged. The shell cannot misinterpret names.
func TestPostprocessor(t *testing.T) {
	dir := t.TempDir()
	l := start(t, postprocessing(dir,
		`sh -c 'echo "$3" >> out; case "$3" in *fail*) echo because >&2; exit 3;; esac' x y`))
	paths := []string{"fail", "it's $(touch bad) `touch bad`", "-x; touch bad", "sub/a"}
	for _, path := range paths {
		write(t, l, message(t, "n", "A::LOG", path, "x", "1"))
	}
	shut(t, l)
	st := l.Stats()
	if st.Rotation.Postprocessed != 4 || st.Rotation.PostprocessFailed != 1 ||
		st.Rotation.PostprocessRunning != 0 ||
		st.LastError == nil || !strings.Contains(st.LastError.Error(), "because") {
		t.Errorf("%+v, %v", st.Rotation, st.LastError)
	}
	files := tree(t, dir)
	got := strings.Split(strings.TrimSpace(files["out"]), "\n")
	slices.Sort(got)
	slices.Sort(paths)
	if !slices.Equal(got, paths) || len(files) != 5 {
		t.Errorf("called for %q, files %q", got, sortedKeys(files))
	}
}

// Post-processors that hang are killed at the end of their time, with the processes that they have
// started, and named in the log. The others run.
func TestPostprocessorsKilled(t *testing.T) {
	dir := t.TempDir()
	var log lockedBuffer
	cfg := postprocessing(dir,
		`sh -c 'case "$3" in hangs*) sleep 1000 & echo $! >> children; wait;; esac; echo "$3" >> done' x y`)
	cfg.PostprocessorTimeout = time.Second
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l := start(t, cfg)
	const hang, run = maxPostprocessors + 4, 5
	for i := range hang {
		write(t, l, message(t, "n", "A::LOG", fmt.Sprintf("hangs%02d", i), "x", "1"))
	}
	for i := range run {
		write(t, l, message(t, "n", "A::LOG", fmt.Sprint("runs", i), "x", "1"))
	}
	shut(t, l)
	if st := l.Stats().Rotation; st.Postprocessed != hang+run || st.PostprocessFailed < hang ||
		st.PostprocessRunning != 0 {
		t.Errorf("%+v", st)
	}
	for i := range hang {
		if name := fmt.Sprintf("hangs%02d.", i); !strings.Contains(log.String(), name) {
			t.Errorf("the log does not name %s", name)
		}
	}
	files := tree(t, dir)
	if st := l.Stats().Rotation; strings.Count(files["done"], "runs") != run &&
		st.PostprocessFailed == hang {
		t.Errorf("done: %q", files["done"])
	}
	for pid := range strings.FieldsSeq(files["children"]) {
		testkit.Eventually(t, "process "+pid+" to be killed", func() bool {
			p, err := os.FindProcess(atoi(t, pid))
			// the parent does not wait for the killed child
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			return err != nil || p.Signal(syscall.Signal(0)) != nil ||
				bytes.Contains(stat, []byte(") Z "))
		})
	}
}

// lockedBuffer is a buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Several post-processors run at once. Close waits for one that hangs only until its context ends.
func TestPostprocessorsHang(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "go")
	l := start(t, postprocessing(dir,
		`echo >> started; while ! test -e go; do sleep 0.05; done; echo >> ended; true`))
	const logs = 5
	for i := range logs {
		write(t, l, message(t, "n", "A::LOG", fmt.Sprint("p", i), "x", "1"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var closing sync.WaitGroup
	closing.Go(func() {
		if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), "5 post-processors") {
			t.Errorf("Close: %v", err)
		}
	})
	testkit.Eventually(t, "all to run at once",
		func() bool { return tree(t, dir)["started"] == strings.Repeat("\n", logs) })
	cancel()
	closing.Wait()
	if err := os.WriteFile(fifo, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all to end", func() bool {
		return tree(t, dir)["ended"] == strings.Repeat("\n", logs) &&
			l.Stats().Rotation.PostprocessRunning == 0
	})
}

// For any events and any harm to the files, every message and record is accounted for at every
// moment: in total, by log and by sender.
func TestAccounts(t *testing.T) {
	good := func(t *rapid.T, tb testing.TB, node, path string) [][]byte {
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,40}`), 0, 5).Draw(t, "lines")
		return message(tb, node, rapid.SampledFrom([]string{"A::LOG", "B::LOG"}).Draw(t, "stream"),
			path,
			rapid.SampledFrom([]string{"x", "x y"}).Draw(t, "columns"), lines...)
	}
	tb := t
	rapid.Check(t, func(t *rapid.T) {
		synctest.Test(tb, func(st *testing.T) {
			dir := filepath.Join(st.TempDir(), "logs")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			o := optionsWith(func(o *redef.Options) {
				intervals := rapid.SampledFrom([]time.Duration{0, 2 * time.Minute})
				o.RotationInterval = intervals.Draw(t, "interval")
				o.GzipLevel = rapid.SampledFrom([]int{0, 1}).Draw(t, "gzip")
			})
			l, err := newLogger(Config{Dir: dir, Options: &o, Location: time.UTC,
				FlushInterval: time.Minute,
				MaxFiles:      rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "files"),
				MaxNodeLogs:   rapid.SampledFrom([]int{3, 100}).Draw(t, "logs"),
				MaxFileSize:   rapid.SampledFrom([]int64{0, 500}).Draw(t, "file size")})
			if err != nil {
				t.Fatal(err)
			}
			disk := &tinyDisk{space: 2000}
			disk.install(l)
			go l.runTimer()
			var records uint64
			for range rapid.IntRange(1, 30).Draw(t, "messages") {
				node := rapid.SampledFrom([]string{"n1", "n2", ""}).Draw(t, "node")
				m := good(t, st, node,
					rapid.SampledFrom([]string{"a", "b", "c/d", "../x", "e", "f"}).Draw(t, "path"))
				switch rapid.IntRange(0, 9).Draw(t, "damage") {
				case 0:
					m = m[:3]
				case 1:
					m[3] = m[3][:rapid.IntRange(0, len(m[3])).Draw(t, "cut")]
				case 2:
					disk.set(rapid.IntRange(0, 3000).Draw(t, "space"))
				case 3:
					time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Minute,
						2 * time.Hour}).Draw(t, "sleep"))
				case 4:
					synctest.Wait()
					takeAway(dir, rapid.SampledFrom([]string{"file", "folder", "moved folder"}).
						Draw(t, "away"))
				}
				ctx, cancel := context.WithTimeout(st.Context(), 100*time.Millisecond)
				if l.Write(ctx, m) == nil {
					b, err := zeek.ParseBatch(m[3])
					if err != nil {
						t.Fatal(err)
					}
					records += uint64(b.NumRecords)
				}
				cancel()
				if err := l.Stats().Check(); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.Bool().Draw(t, "room") {
				disk.set(1 << 20)
			}
			ctx, cancel := context.WithTimeout(st.Context(), time.Second)
			defer cancel()
			var lost uint64
			if err := l.Close(ctx); err != nil {
				lost = lostRecords(err)
			}
			stats := l.Stats()
			if err := stats.Check(); err != nil {
				t.Fatal(err)
			}
			if stats.Queued != (pipeline.Counts{}) || stats.Written.Records+lost != records {
				t.Fatalf("%d records were taken, %d lost, written %+v, queued %+v", records, lost,
					stats.Written, stats.Queued)
			}
		})
	})
}

// takeAway removes a log file, or removes or moves the log folder and makes a new one.
func takeAway(dir, what string) {
	switch what {
	case "file":
		if files, _ := filepath.Glob(filepath.Join(dir, "*.log*")); len(files) > 0 {
			_ = os.Remove(files[0])
		}
	case "folder":
		_ = os.RemoveAll(dir)
	default:
		_ = os.Rename(dir, fmt.Sprintf("%s.%d", dir, time.Now().UnixNano()))
	}
	_ = os.Mkdir(dir, 0o777)
}

// lostRecords returns the number of lost records in the error of Close.
func lostRecords(err error) (n uint64) {
	switch e := err.(type) {
	case *LostError:
		return e.Lost.Records
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			n += lostRecords(one)
		}
	}
	return n
}
