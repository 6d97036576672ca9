package spool

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		killChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// quiet is a Config with which the flusher does nothing during a test.
func quiet(dir string) Config {
	return Config{Dir: dir, SyncInterval: time.Hour}
}

// start opens a spool that is closed at the end of the test, and returns the recovered records.
func start(t testing.TB, cfg Config) (*Spool, []string) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var recovered []string
	s, err := Open(cfg, func(record []byte) { recovered = append(recovered, string(record)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, recovered
}

// crash ends a spool as kill -9 would.
func crash(s *Spool) {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return
	}
	close(s.closing)
	s.running.Wait()
	s.release()
}

// tb is the common part of *testing.T and *rapid.T.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

func appendRecords(t tb, s *Spool, records ...string) (seqs []Seq) {
	t.Helper()
	for _, r := range records {
		seq, err := s.Append([]byte(r))
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// readAll returns all records that Next returns.
func readAll(t tb, s *Spool) (seqs []Seq, records []string) {
	t.Helper()
	var buf []byte
	for {
		seq, b, err := s.Next(buf)
		if errors.Is(err, ErrEmpty) {
			return seqs, records
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		seqs, records, buf = append(seqs, seq), append(records, string(b)), b
	}
}

// onDisk returns the number and size of the segments in a folder.
func onDisk(t tb, dir string) (names []string, size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			fi, err := e.Info()
			if err != nil {
				t.Fatalf("%v", err)
			}
			names = append(names, filepath.Join(dir, e.Name()))
			size += fi.Size()
		}
	}
	return names, size
}

// disk lets the files of a spool fail as on a disk with little space: a write is cut off where the
// space ends. Sync costs nothing.
type disk struct {
	mu     sync.Mutex
	space  int
	broken bool // Truncate and Sync fail

	syncing func() // called by every Sync if not nil
}

func (d *disk) set(space int, broken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space, d.broken = space, broken
}

func (d *disk) open(root *os.Root, name string, flag int) (file, error) {
	f, err := openFile(root, name, flag)
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

type diskFile struct {
	file
	disk *disk
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.file.WriteAt(b[:min(len(b), f.disk.space)], off)
	f.disk.space -= n
	if err == nil && n < len(b) {
		err = &fs.PathError{Op: "write", Path: "a file", Err: syscall.ENOSPC}
	}
	return n, err
}

func (f *diskFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.broken {
		return syscall.EIO
	}
	return f.file.Truncate(size)
}

func (f *diskFile) Sync() error {
	if f.disk.syncing != nil {
		f.disk.syncing()
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.broken {
		return syscall.EIO
	}
	return nil
}
