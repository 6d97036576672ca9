package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for a process.
const patience = 60 * time.Second

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

var listening = regexp.MustCompile(`msg=listening flag=\S+ socket=PULL endpoint=(\S+)`)

// The demo logs into the real logger, in both formats.
func TestLogger(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be asked to end there")
	}
	zmtpd, logdemo := testkit.Build(t, "zmtpd/cmd/zmtpd"), testkit.Build(t, "zmtpd/pipeline/logwriter/logdemo")
	for _, format := range []string{"tsv", "json"} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			var stderr output
			logger := exec.Command(zmtpd, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir, "--format", format)
			logger.Stderr = &stderr
			if err := logger.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- logger.Wait() }()
			t.Cleanup(func() {
				logger.Process.Kill()
				if t.Failed() {
					t.Logf("zmtpd wrote to stderr:\n%s", stderr.String())
				}
			})
			var endpoint string
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for deadline := time.After(patience); endpoint == ""; {
				select {
				case <-tick.C:
					if m := listening.FindStringSubmatch(stderr.String()); m != nil {
						endpoint = m[1]
					}
				case err := <-ended:
					t.Fatalf("the logger ended: %v", err)
				case <-deadline:
					t.Fatal("the logger does not listen")
				}
			}

			if out, err := exec.Command(logdemo, "--connect", endpoint, "--count", "3", "--interval", "10ms").CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("logdemo: %v\n%s", err, out)
			}
			if err := logger.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("the logger: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("the logger does not end")
			}
			log, err := os.ReadFile(filepath.Join(dir, "host.log"))
			if err != nil {
				t.Fatal(err)
			}
			if format == "json" {
				checkJSON(t, log)
			} else {
				checkTSV(t, log)
			}
		})
	}
}

func checkTSV(t *testing.T, log []byte) {
	for _, want := range []string{
		"#path\thost\n",
		"\n#fields\tts\tname\tevent\tuptime\taddrs\tnets\tmem.heap\tmem.total\tgoroutines\tlast_gc\n",
		"\n#types\ttime\tstring\tenum\tinterval\tset[addr]\tset[subnet]\tcount\tcount\tcount\ttime\n",
	} {
		if !bytes.Contains(log, []byte(want)) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if n := bytes.Count(log, []byte("\tHost::STARTED\t")); n != 1 {
		t.Errorf("started %d times", n)
	}
	if n := bytes.Count(log, []byte("\tHost::RUNNING\t")); n != 2 {
		t.Errorf("%d records after the first, want 2", n)
	}
}

func checkJSON(t *testing.T, log []byte) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	last := 0.0
	lines := strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3", len(lines))
	}
	for i, line := range lines {
		var r struct {
			TS     float64      `json:"ts"`
			Name   string       `json:"name"`
			Event  string       `json:"event"`
			Uptime float64      `json:"uptime"`
			Addrs  []netip.Addr `json:"addrs"`
			Heap   uint64       `json:"mem.heap"`
			Total  uint64       `json:"mem.total"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		event := "Host::RUNNING"
		if i == 0 {
			event = "Host::STARTED"
		}
		if age := time.Since(time.UnixMicro(int64(r.TS * 1e6))); age < 0 || age > patience || r.Uptime < last {
			t.Errorf("logged %v ago, up for %v s after %v s", age, r.Uptime, last)
		}
		last = r.Uptime
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != host || r.Event != event || len(r.Addrs) != len(addrs) || r.Heap == 0 || r.Heap > r.Total {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

// Without a logger the demo says so.
func TestNoLogger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts
	err = run(t.Context(), []string{"--connect", "tcp://" + l.Addr().String(), "--count", "1", "--patience", "50ms"})
	if err == nil || !strings.Contains(err.Error(), "no logger at tcp://127.0.0.1:") {
		t.Errorf("run: %v", err)
	}
	if err := run(t.Context(), []string{"--connect", "udp://127.0.0.1:1"}); err == nil {
		t.Error("no error for a bad endpoint")
	}
}
