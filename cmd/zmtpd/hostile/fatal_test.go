//go:build linux

package hostile

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"zmtpd/pipeline/pipelinetest"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// The logger dies at a batch in the spool. The next one delivers the batch again and dies as well.
// The third one sets it aside. The records of other nodes before and after it are not lost, and
// logs go on.
func TestFatalBatchInSpool(t *testing.T) {
	beside(t)
	dir := t.TempDir()
	endpoint, spool := "ipc://"+filepath.Join(dir, "pull"), filepath.Join(dir, "spool")
	var before, after atomic.Int32
	// start starts a logger. The reader of its lines stops at the first line of the batch, which is
	// larger than a pipe. So the batch is being delivered when the logger is killed.
	start := func(name string) (p *testkit.Process, fatal <-chan struct{}) {
		fifo := filepath.Join(dir, name)
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		lines, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		found, end := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(end)
			for s := bufio.NewScanner(lines); s.Scan(); {
				switch line := s.Text(); {
				case strings.Contains(line, "before the batch"):
					before.Add(1)
				case strings.Contains(line, "after the batch"):
					after.Add(1)
				case strings.Contains(line, `"_path":"fatal"`):
					close(found)
					return
				}
			}
		}()
		t.Cleanup(func() { lines.Close(); <-end })
		return testkit.Start(t, "sh", nil, "-c", `exec "$0" "$@" >`+fifo, zmtpd, "logger",
			budgetFlag, "--listen", endpoint, "--sink", "stdout", "--spool", spool,
			"--spool-first"), found
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	var records [][]zeek.Value
	for range 100 {
		records = append(records, []zeek.Value{zeek.String(strings.Repeat("x", 16<<10))})
	}
	honest := func(text string) zmtp.Message {
		return zmtp.NewMessage(pipelinetest.Message(t, "honest", "Honest::LOG", "honest", "who",
			text)...)
	}
	for _, m := range []zmtp.Message{
		honest("before the batch"),
		batch(t, zeek.Schema{Stream: "Evil::LOG", Path: "fatal",
			Fields: []zeek.Field{{Name: "s", Type: zeek.TypeString}}}, records),
		honest("after the batch"),
	} {
		if err := push.Send(testkit.Context(t), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"first", "second"} {
		p, fatal := start(name)
		if name == "first" {
			testkit.Eventually(t, "all are received", func() bool { return received(p) == 3 })
		}
		testkit.Done(t, "delivery of the batch", fatal)
		p.Signal(syscall.SIGKILL)
		p.Wait()
	}

	p, fatal := start("third")
	testkit.Eventually(t, "a logger that goes on", func() bool { return received(p) >= 0 })
	a := assault{
		name: "batch that kills", daemon: "logger",
		inputs:  "1.6 MB in the spool, at which two processes died",
		process: p, honest: startLogs(t, p, endpoint, zmtp.Config{}),
	}
	a.run = func(t *testing.T, ctx context.Context) {
		select {
		case <-fatal:
			t.Error("the batch is delivered again")
		case <-ctx.Done():
		}
	}
	a.start(t)
	if before.Load() == 0 || after.Load() == 0 {
		t.Errorf("the honest record before the batch came %d times, the one after it %d times",
			before.Load(), after.Load())
	}
	if log := p.Stderr.String(); !strings.Contains(log, "deaths=2") ||
		!strings.Contains(log, "node="+evil) {
		t.Error("the log does not say that the batch is set aside, and from which node it came")
	}
	if files, err := filepath.Glob(filepath.Join(spool, "*", "aside", "*")); err != nil ||
		len(files) != 1 {
		t.Errorf("the set aside files are %q, error %v", files, err)
	}
}

// received returns the number of messages that a logger has received, or -1 while it does not
// answer.
func received(p *testkit.Process) int {
	p.WantRunning()
	if !strings.Contains(p.Stderr.String(), "socket=HTTP") {
		return -1
	}
	var s struct {
		Logger struct{ Received struct{ Messages int } }
	}
	p.Status(&s)
	return s.Logger.Received.Messages
}
