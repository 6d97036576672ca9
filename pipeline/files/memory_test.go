package files

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline/internal/text"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// forms are the forms of a log file.
var forms = map[string]func(*redef.Options){
	"tsv":     func(*redef.Options) {},
	"json":    func(o *redef.Options) { o.Format.UseJSON = true },
	"ordered": func(o *redef.Options) { o.Format.SetSeparator = o.Format.Separator },
	"gzip":    func(o *redef.Options) { o.GzipLevel = 1 },
}

// renderings returns how often the batches of a path were rendered.
func renderings(l *Logger, path string) (n uint64) {
	for _, s := range l.sortedLogs() {
		if s.key.Path == path {
			for _, f := range s.files {
				n += f.render.renderings.Load()
			}
		}
	}
	return n
}

// While a file cannot be written, its batches are not rendered again and again. This holds for a
// batch that waits for a full buffer, for one of which some pieces can be written, and for one
// whose file cannot be created.
func TestStuckFileRendersOnce(t *testing.T) {
	for name, change := range forms {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := optionsWith(change)
				l, err := newLogger(Config{Dir: t.TempDir(), Options: &o, Location: time.UTC,
					FlushInterval: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				disk := &tinyDisk{space: 2*zeek.PieceBytes + 9000}
				var locked atomic.Bool
				locked.Store(true)
				disk.install(l)
				open := l.openFile
				l.openFile = func(name string, flag int) (file, error) {
					if locked.Load() && strings.HasPrefix(name, "closed") {
						return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
					}
					return open(name, flag)
				}
				go l.runTimer()
				long := longLines(0)
				if o.GzipLevel > 0 { // 60 times as long
					disk.set(20_000)
				}
				var sending sync.WaitGroup
				send := func(path string, lines ...string) {
					sending.Go(func() {
						if err := l.Write(t.Context(),
							message(t, "n", "A::LOG", path, "x", lines...)); err != nil {
							t.Error(err)
						}
					})
				}
				send("long", long...)
				time.Sleep(time.Minute)
				disk.set(100)
				send("closed", "1")
				for range 3 {
					send("short", strings.Repeat("y", 500))
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				// Once to learn the size, once in pieces, and then only when there is room.
				for path, most := range map[string]uint64{"long": 3, "closed": 1, "short": 3} {
					if n := renderings(l, path); n == 0 || n > most {
						t.Errorf("%s was rendered %d times, want at most %d", path, n, most)
					}
				}
				checkBalance(t, l.Stats())
				locked.Store(false)
				disk.set(100 << 20)
				sending.Wait()
				shut(t, l)
				if st := l.Stats(); st.Written.Records != uint64(len(long)+4) {
					t.Errorf("written %+v", st.Written)
				}
			})
		})
	}
}

// The memory of files counts in the budget as long as it is in use, and all is returned. Without
// memory in the budget all batches are written as well.
func TestMemory(t *testing.T) {
	for name, change := range forms {
		for _, limit := range []int64{64 << 20, 1} {
			t.Run(fmt.Sprint(name, "/", limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					budget := memory.New(limit, nil)
					o := optionsWith(change)
					o.RotationInterval = time.Hour
					l := start(t, Config{Dir: dir, Options: &o, Location: time.UTC, Memory: budget,
						Archive: "archive", Compress: Compression{Name: "gzip", Level: 1}})
					disk := &tinyDisk{space: 100 << 20}
					disk.install(l)
					var sending sync.WaitGroup
					want := map[string][]string{}
					for i := range 12 {
						path := fmt.Sprint("p", i)
						lines := []string{"first", strings.Repeat("z", 100_000), "last"}
						if i == 0 {
							lines = longLines(0)[:500]
						}
						want[path] = lines
						sending.Go(func() {
							m := message(t, "n", "A::LOG", path, "x", lines...)
							if err := l.Write(t.Context(), m); err != nil {
								t.Error(err)
							}
						})
					}
					sending.Wait()
					disk.set(0)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					_ = l.Write(ctx, message(t, "n", "A::LOG", "p5", "x", "given up"))
					cancel()
					synctest.Wait()
					held := int64(0)
					for _, s := range l.sortedLogs() {
						for _, f := range s.files {
							held += int64(cap(f.buf))
							if f.zip != nil {
								held += gzipBytes + int64(f.zip.out.Cap())
							}
						}
					}
					if n := budget.Stats().ByKind["files"]; n != held {
						t.Errorf("%d bytes count in the budget, files hold %d", n, held)
					}
					if o.GzipLevel > 0 && limit > 1 && held < 12*gzipBytes {
						t.Errorf("gzip streams count as %d bytes", held)
					}
					disk.set(100 << 20)
					shut(t, l)
					if st := budget.Stats(); st.Used != 0 || st.Holders != 0 {
						t.Errorf("at the end %d bytes are used by %d holders", st.Used, st.Holders)
					}
					most := int64(3*least)*text.PieceBytes + 12*gzipBytes
					if peak := budget.Stats().Peak; limit == 1 && peak > most {
						t.Errorf("%d bytes were used without memory, want at most %d", peak, most)
					}
					written := l.Stats().Written.Records
					if n := uint64(500 + 11*3); written < n || written > n+1 {
						t.Errorf("%d records are written, want %d", written, n)
					}
				})
			})
		}
	}
}

// If the budget has no memory for another gzip stream, the least recently used file is closed until
// its next batch. Its log stays whole.
func TestMemoryParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		budget := memory.New(8<<20, nil)
		o := optionsWith(func(o *redef.Options) { o.GzipLevel = 6 })
		l := start(t, Config{Dir: dir, Options: &o, Location: time.UTC, Memory: budget})
		for round := range 3 {
			for i := range 30 {
				write(t, l, message(t, "n", "A::LOG", fmt.Sprint("p", i), "x", fmt.Sprint(round)))
				time.Sleep(time.Second)
			}
		}
		if st, n := budget.Stats(), l.Stats().OpenFiles; st.Used > st.Limit || n < 2 || n > 6 {
			t.Errorf("%d bytes of %d are used, %d files are open", st.Used, st.Limit, n)
		}
		shut(t, l)
		for name, content := range tree(t, dir) {
			if got := records(plain(t, content)); !slices.Equal(got, []string{"0", "1", "2"}) {
				t.Errorf("%s: %q", name, got)
			}
		}
		if st := budget.Stats(); st.Used != 0 {
			t.Errorf("%d bytes are not returned", st.Used)
		}
	})
}
