package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"zmtpd/forwarder/store"
)

// disk is a backend that counts its transactions, and fails while it is told to.
type disk struct {
	mu      sync.Mutex
	commits int
	changes int
	fail    bool
}

func (d *disk) Load(func(*store.Entry) error) (uint64, error) { return 0, nil }

func (d *disk) Commit(changes []store.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		return errors.New("no space left on device")
	}
	d.commits++
	d.changes += len(changes)
	return nil
}

func (d *disk) Sync() error  { return nil }
func (d *disk) Close() error { return nil }

// serveDisk starts a Server on a store with a backend.
func serveDisk(t *testing.T, d *disk) (address string) {
	t.Helper()
	st, err := store.Open(store.Config{Name: "disk", Backend: d})
	if err != nil {
		t.Fatal(err)
	}
	s := New([]*store.Store{st}, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		st.Close()
	})
	return l.Addr().String()
}

// The requests of a pipeline share transactions of the backend.
func TestPipelineCommits(t *testing.T) {
	d := new(disk)
	address := serveDisk(t, d)
	got := talk(t, address, strings.Repeat("INCR n\r\n", 10_000))
	if n := strings.Count(got, ":"); n != 10_000 || !strings.HasSuffix(got, ":10000\r\n") {
		t.Fatalf("%d answers: %.100q", n, got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changes != 10_000 || d.commits > 200 {
		t.Errorf("%d changes in %d transactions", d.changes, d.commits)
	}
}

// A change that the backend does not take is answered with an error, and so is what depends on it.
func TestFailedCommit(t *testing.T) {
	d := new(disk)
	address := serveDisk(t, d)
	talk(t, address, "SET a 1\r\n")
	d.mu.Lock()
	d.fail = true
	d.mu.Unlock()
	const failed = "-MISCONF backend_failure: "
	got := talk(t, address, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n2\r\n"+
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n")
	lines := strings.Split(got, "\r\n")
	if len(lines) < 4 || lines[1] != "1" || !strings.HasPrefix(lines[2], failed) ||
		strings.Contains(got, "OK") || strings.Contains(got, "$1\r\n2\r\n") {
		t.Errorf("%q", got)
	}
	got = talk(t, address, "MULTI\r\nSET a 2\r\nSET b 2\r\nEXEC\r\n")
	if !strings.HasPrefix(got, "+OK\r\n+QUEUED\r\n+QUEUED\r\n"+failed) {
		t.Errorf("%q", got)
	}
	d.mu.Lock()
	d.fail = false
	d.mu.Unlock()
	if got := talk(t, address, "GET a\r\nEXISTS b\r\n"); got != "$1\r\n1\r\n:0\r\n" {
		t.Errorf("%q", got)
	}
}
