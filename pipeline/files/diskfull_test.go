package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/testkit"
)

// tinyDisk lets the files of a logger fail as on a disk with little space: a write is cut off where
// the space ends.
type tinyDisk struct {
	mu    sync.Mutex
	space int
}

func (d *tinyDisk) set(space int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space = space
}

func (d *tinyDisk) install(l *Logger) {
	l.openFile = func(name string, flag int) (file, error) {
		f, err := l.openInFolder(name, flag)
		if err != nil {
			return nil, err
		}
		return &tinyFile{f, d}, nil
	}
}

type tinyFile struct {
	file
	disk *tinyDisk
}

func (f *tinyFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.file.Write(b[:min(len(b), f.disk.space)])
	f.disk.space -= n
	if err == nil && n < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *tinyFile) Truncate(size int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.space += int(fi.Size() - size)
	return f.file.Truncate(size)
}

func (f *tinyFile) Reserve(n int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if n > int64(f.disk.space) {
		return syscall.ENOSPC
	}
	return nil
}

// wholeLines checks that no file ends within a line.
func wholeLines(t *testing.T, dir string) {
	t.Helper()
	for name, content := range tree(t, dir) {
		if content != "" && !strings.HasSuffix(content, "\n") && !strings.HasSuffix(name, ".gz") {
			t.Errorf("%s ends within a line: %q", name, content[max(0, len(content)-40):])
		}
	}
}

// Whenever and however often the disk is full, nothing is lost or written twice, and no half line
// stays.
func TestDiskFullAnywhere(t *testing.T) {
	for seed := range 40 {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			o := optionsWith(func(o *redef.Options) {
				if seed%2 == 0 {
					o.RotationInterval = 5 * time.Second
				}
				if seed%4 < 2 {
					o.GzipLevel = 1
				}
			})
			disk := &tinyDisk{space: random.IntN(500)}
			l, err := newLogger(Config{Dir: dir, Options: &o, Location: time.UTC})
			if err != nil {
				t.Fatal(err)
			}
			disk.install(l)
			go l.runTimer()
			var sending sync.WaitGroup
			want := map[string][]string{}
			for p := range 3 {
				path := fmt.Sprint("p", p)
				var lines []string
				for i := range 50 {
					lines = append(lines,
						fmt.Sprintf("%d %d %s", p, i, strings.Repeat("x", random.IntN(200))))
				}
				want[path] = lines
				pause := time.Duration(random.IntN(1000)) * time.Millisecond
				sending.Go(func() {
					for _, line := range lines {
						if err := l.Write(t.Context(),
							message(t, path, "A::LOG", path, "x", line)); err != nil {
							t.Error(err)
						}
						time.Sleep(pause)
					}
				})
			}
			done := make(chan struct{})
			go func() { sending.Wait(); close(done) }()
			for sent := false; !sent; {
				select {
				case <-done:
					sent = true
				case <-time.After(2 * time.Second):
				}
				synctest.Wait()
				wholeLines(t, dir)
				checkBalance(t, l.Stats())
				if !sent {
					disk.set(random.IntN(20_000))
				}
			}
			disk.set(1 << 20)
			shut(t, l)
			got := map[string][]string{}
			files := tree(t, dir)
			for _, name := range sortedKeys(files) {
				path, _, _ := strings.Cut(name, ".")
				content := plain(t, files[name])
				got[path] = append(got[path], records(content)...)
				if n := strings.Count(content, "#close"); n != 1 ||
					strings.Count(content, "#open") != 1 {
					t.Errorf("%s has %d #close:\n%s", name, n, content)
				}
			}
			for path := range want {
				if !slices.Equal(got[path], want[path]) {
					t.Errorf("%s: got\n%q\nwant\n%q", path, got[path], want[path])
				}
			}
		})
	}
}

// With a full disk the sender is held up when one buffer is full. The error of Close says what
// could not be written.
func TestDiskStaysFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, err := newLogger(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		disk := &tinyDisk{space: 300}
		disk.install(l)
		go l.runTimer()
		blocked := make(chan error, 1)
		go func() {
			for {
				if err := l.Write(context.Background(),
					message(t, "n", "A::LOG", "a", "x", strings.Repeat("1", 50))); err != nil {
					blocked <- err
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		time.Sleep(time.Hour)
		st := l.Stats()
		checkBalance(t, st)
		if st.Queued.Messages == 0 || st.Queued.Messages > 30 ||
			!errors.Is(st.LastError, syscall.ENOSPC) {
			t.Errorf("queued %+v, last error %v", st.Queued, st.LastError)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err = l.Close(ctx)
		lost, ok := errors.AsType[*LostError](err)
		if !ok || lost.Path != "a" || lost.Lost.Records == 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		if d := time.Since(began); d != time.Minute {
			t.Errorf("Close tried for %v, want until its context ended", d)
		}
		wantDrop(t, <-blocked, pipeline.ReasonWrite)
		st = l.Stats()
		checkBalance(t, st)
		if st.Queued != (pipeline.Counts{}) ||
			st.Dropped[pipeline.ReasonWrite].Messages != lost.Lost.Messages+1 {
			t.Errorf("after Close queued %+v, dropped %+v, lost %+v", st.Queued,
				st.Dropped[pipeline.ReasonWrite], lost.Lost)
		}
		wholeLines(t, dir)
	})
}

// Write stops waiting when its context ends.
func TestWriteContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, Config{Dir: t.TempDir()})
		full := true
		l.openFile = func(name string, flag int) (file, error) {
			if full {
				return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
			}
			return l.openInFolder(name, flag)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := l.Write(ctx, message(t, "n", "A::LOG", "a", "x", "1"))
		wantDrop(t, err, pipeline.ReasonWrite)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Write: %v, want an error with the reason", err)
		}
		full = false
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
	})
}

// The test uses a real disk that is full.
func TestTmpfsFull(t *testing.T) {
	dir := testkit.Tmpfs(t, 256<<10)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 200<<10), 0o666); err != nil {
		t.Fatal(err)
	}
	o := optionsWith(func(o *redef.Options) {
		o.RotationInterval, o.LeftoverRotation = time.Second,
			true
	})
	l := start(t, Config{Dir: dir, Options: &o, FlushInterval: 10 * time.Millisecond})
	var want []string
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range 3000 {
			line := fmt.Sprint(i, strings.Repeat(" more", 8))
			want = append(want, line)
			if err := l.Write(t.Context(), message(t, "n", "A::LOG", "a", "x", line)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	deadline := time.Now().Add(20 * time.Second)
	for !errors.Is(l.Stats().LastError, syscall.ENOSPC) {
		if time.Now().After(deadline) {
			t.Fatalf("the disk did not fill: %+v", l.Stats())
		}
		<-time.After(time.Millisecond)
	}
	select {
	case <-sent:
		t.Error("the sender was not held up")
	case <-time.After(300 * time.Millisecond):
	}
	checkBalance(t, l.Stats())
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	<-sent
	shut(t, l)
	var got []string
	files := tree(t, dir)
	for _, name := range sortedKeys(files) {
		got = append(got, records(files[name])...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d records in %q, want %d", len(got), sortedKeys(files), len(want))
	}
	if st := l.Stats(); st.Written != st.Received || st.Written.Records != 3000 {
		t.Errorf("received %+v, written %+v", st.Received, st.Written)
	}
}

// stuckFile fails for a while to truncate.
type stuckFile struct {
	file
	failures *int
}

func (f *stuckFile) Truncate(size int64) error {
	if *f.failures--; *f.failures >= 0 {
		return syscall.EIO
	}
	return f.file.Truncate(size)
}

// The remains of a failed write are removed later if they cannot be removed at once.
func TestTruncateFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, err := newLogger(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		disk, failures := &tinyDisk{space: 200}, 3
		l.openFile = func(name string, flag int) (file, error) {
			f, err := l.openInFolder(name, flag)
			return &stuckFile{&tinyFile{f, disk}, &failures}, err
		}
		go l.runTimer()
		want := []string{strings.Repeat("1", 100), "2"}
		write(t, l, message(t, "n", "A::LOG", "a", "x", want[0]))
		time.Sleep(time.Second)
		synctest.Wait()
		if content := tree(t, dir)["a.log"]; failures > 2 || len(content) != 200 {
			t.Fatalf("the file was not torn, %d failures left: %q", failures, content)
		}
		disk.set(1000)
		write(t, l, message(t, "n", "A::LOG", "a", "x", want[1]))
		shut(t, l)
		if content := tree(t, dir)["a.log"]; !slices.Equal(records(content), want) ||
			strings.Count(content, "#fields") != 1 {
			t.Errorf("the file holds %q", content)
		}
	})
}

// Nothing follows a #close that could not be written at first.
func TestNothingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, err := newLogger(Config{Dir: dir, Location: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		disk := &tinyDisk{space: 10_000}
		disk.install(l)
		go l.runTimer()
		write(t, l, message(t, "n", "A::LOG", "a", "x", "1"))
		time.Sleep(nodeGone + time.Second) // then other columns get the name
		disk.set(0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		wantDrop(t, l.Write(ctx, message(t, "m", "A::LOG", "a", "y", "lost")), pipeline.ReasonWrite)
		disk.set(10_000)
		write(t, l, message(t, "n", "A::LOG", "a", "x", "2"))
		shut(t, l)
		files := tree(t, dir)
		if len(files) != 2 {
			t.Errorf("files %q", sortedKeys(files))
		}
		for name, content := range files {
			if strings.Count(content, "#close") != 1 ||
				!strings.HasPrefix(content[strings.Index(content, "#close"):],
					"#close\t2000-01-01-") ||
				strings.Count(content[strings.Index(content, "#close"):], "\n") != 1 ||
				len(records(content)) != 1 {
				t.Errorf("%s holds %q", name, content)
			}
		}
	})
}
