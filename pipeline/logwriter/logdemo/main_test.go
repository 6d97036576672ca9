package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The demo logs into the real logger, in both formats.
func TestDemoLogsIntoZmtpd(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signal that asks a process to end")
	}
	zmtpd, logdemo := testkit.Build(t, t.TempDir(), "zmtpd/cmd/zmtpd"),
		testkit.Build(t, t.TempDir(), "zmtpd/pipeline/logwriter/logdemo")
	for _, format := range []string{"tsv", "json"} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			logger := testkit.StartDaemon(t, zmtpd, "logger", "--dir", dir, "--format", format)
			if out, err := exec.Command(logdemo, "--connect", logger.Endpoint("PULL"), "--count",
				"3", "--interval", "10ms").CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("logdemo: %v\n%s", err, out)
			}
			logger.Terminate()
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
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if n := bytes.Count(log, []byte("\tHost::STARTED\t")); n != 1 {
		t.Errorf("%d records say that the demo was started, want 1", n)
	}
	if n := bytes.Count(log, []byte("\tHost::RUNNING\t")); n != 2 {
		t.Errorf("%d records follow the first, want 2", n)
	}
}

func checkJSON(t *testing.T, log []byte) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
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
		if age := time.Since(time.UnixMicro(int64(r.TS * 1e6))); age < 0 ||
			age > testkit.Patience || r.Uptime < last {
			t.Errorf("logged %v ago, up for %v s after %v s", age, r.Uptime, last)
		}
		last = r.Uptime
		// Other addresses of the host may come and go with network namespaces.
		if r.Name != host || r.Event != event || !slices.Contains(r.Addrs, loopback) ||
			r.Heap == 0 || r.Heap > r.Total {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

// Without a logger the demo reports an error.
func TestDemoReportsMissingLogger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts no connection
	err = run(t.Context(), []string{"--connect", "tcp://" + l.Addr().String(), "--count", "1",
		"--patience", "50ms"})
	if err == nil || !strings.Contains(err.Error(), "the logger at tcp://127.0.0.1:") {
		t.Errorf("run: %v", err)
	}
	if err := run(t.Context(), []string{"--connect", "udp://127.0.0.1:1"}); err == nil {
		t.Error("a bad endpoint is accepted")
	}
}
