package files

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
)

// longLines returns the lines of a batch with a text of several pieces.
func longLines(from int) []string {
	lines := make([]string, 1000)
	for i := range lines {
		lines[i] = fmt.Sprintf("%d %s", from+i, strings.Repeat("x", 2500))
	}
	return lines
}

// pieceFile keeps the size of the largest write.
type pieceFile struct {
	file
	largest *int
}

func (f *pieceFile) Write(b []byte) (int, error) {
	*f.largest = max(*f.largest, len(b))
	return f.file.Write(b)
}

// A batch with a long text is in its file completely or not at all, whenever the disk is full, in
// every form of a file, and in order with the batches around it. No write is much larger than a
// piece.
func TestLongText(t *testing.T) {
	for name, change := range map[string]func(*redef.Options){
		"tsv":     func(*redef.Options) {},
		"json":    func(o *redef.Options) { o.Format.UseJSON = true },
		"ordered": func(o *redef.Options) { o.Format.SetSeparator = o.Format.Separator },
		"gzip":    func(o *redef.Options) { o.GzipLevel = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				o := optionsWith(change)
				l, err := newLogger(Config{Dir: dir, Options: &o, Location: time.UTC})
				if err != nil {
					t.Fatal(err)
				}
				disk := &tinyDisk{space: 1000}
				disk.install(l)
				open, largest := l.openFile, 0
				l.openFile = func(name string, flag int) (file, error) {
					f, err := open(name, flag)
					if err != nil {
						return nil, err
					}
					return &pieceFile{f, &largest}, nil
				}
				go l.runTimer()
				first, long, last := []string{"first"}, longLines(0), longLines(1000)
				var sending sync.WaitGroup
				sending.Go(func() {
					for _, lines := range [][]string{first, long, last, {"last"}} {
						if err := l.Write(t.Context(),
							message(t, "n", "A::LOG", "a", "x", lines...)); err != nil {
							t.Error(err)
						}
					}
				})
				for _, space := range []int{5000, 12_000, zeek.PieceBytes, 2 * zeek.PieceBytes,
					100 << 20} {
					time.Sleep(10 * time.Second)
					synctest.Wait()
					checkBalance(t, l.Stats())
					wholeLines(t, dir)
					for _, content := range tree(t, dir) {
						if n := strings.Count(content, "x"); !strings.HasPrefix(content,
							"\x1f\x8b") && n > 100 && n < 1000*2500 {
							t.Errorf("a part of the batch is in the file: %d", n)
						}
					}
					disk.set(space)
				}
				sending.Wait()
				shut(t, l)
				content := ""
				for _, content = range tree(t, dir) {
				}
				content = plain(t, content)
				var got []string
				for line := range strings.Lines(content) {
					if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
						got = append(got,
							strings.TrimSuffix(strings.TrimPrefix(line, `{"x":"`), `"}`))
					}
				}
				if want := slices.Concat(first, long, last, []string{"last"}); !slices.Equal(got,
					want) {
					t.Errorf("%d records, want %d, or their content differs", len(got), len(want))
				}
				if largest > zeek.PieceBytes+zeek.PieceBytes/4 {
					t.Errorf("the largest write has %d bytes", largest)
				}
				if st := l.Stats(); st.Written.Records != 2002 || l.buffered.Load() != 0 {
					t.Errorf("%+v, %d bytes are buffered", st, l.buffered.Load())
				}
			})
		})
	}
}

// When the buffers of files are full, further texts are in their file when Write returns.
func TestBuffersBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, err := newLogger(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		const maxBuffered, size = 2 << 20, 60_000
		l.maxBuffered = maxBuffered
		full := &tinyDisk{space: 300}
		full.install(l)
		stuck := l.openFile
		l.openFile = func(name string, flag int) (file, error) {
			if strings.HasPrefix(name, "stuck") {
				return stuck(name, flag)
			}
			return l.openInFolder(name, flag)
		}
		go l.runTimer()
		ctx, cancel := context.WithCancel(t.Context())
		var sending sync.WaitGroup
		text := strings.Repeat("x", size)
		for i := range 60 {
			sending.Go(func() {
				_ = l.Write(ctx, message(t, "n", "A::LOG", fmt.Sprint("stuck", i), "x", text))
			})
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := l.buffered.Load(); n < maxBuffered || n > maxBuffered+2*maxEarly*size {
			t.Errorf("%d bytes are buffered", n)
		}
		if err := l.Write(t.Context(), message(t, "n", "A::LOG", "fine", "x", "1")); err != nil {
			t.Error(err)
		}
		if got := tree(t, dir)["fine.log"]; !slices.Equal(records(got), []string{"1"}) {
			t.Errorf("%q", got)
		}
		full.set(1 << 30)
		sending.Wait()
		cancel()
		shut(t, l)
		if n := l.buffered.Load(); n != 0 {
			t.Errorf("%d bytes are buffered at the end", n)
		}
	})
}

// gonePipe is a standard output whose reader has ended.
type gonePipe struct{}

func (gonePipe) Write([]byte) (int, error) { return 0, fmt.Errorf("write: %w", syscall.EPIPE) }

// When the reader of the standard output has ended, batches for it come back with ErrGone, and no
// sender waits.
func TestStdoutGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := optionsWith(func(o *redef.Options) { o.Stdout = true })
		l, err := newLogger(Config{Dir: t.TempDir(), Options: &o})
		if err != nil {
			t.Fatal(err)
		}
		all := &stdout{w: gonePipe{}}
		l.openFile = func(string, int) (file, error) { return all, nil }
		go l.runTimer()
		for i, lines := range [][]string{{"in the buffer"}, {"refused"}, longLines(0)} {
			m := message(t, "n", "A::LOG", "a", "x", lines...)
			b, drop := pipeline.ParseMessage(m)
			if drop != nil {
				t.Fatal(drop)
			}
			done := make(chan error, 1)
			l.Send(t.Context(), pipeline.NewEntry(m[1], b,
				func(_ []pipeline.Refusal, err error) { done <- err }))
			if err := <-done; !errors.Is(err, pipeline.ErrGone) {
				t.Errorf("batch %d: %v", i, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = l.Close(ctx)
		checkBalance(t, l.Stats())
		if st := l.Stats(); st.Received.Messages != 0 {
			t.Errorf("%+v", st)
		}
	})
}
