//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A daemon at rest uses no CPU time, with and without connections. Neither does a daemon that waits
// in vain.
func TestDaemonsAtRestUseNoCPU(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	nowhere := "ipc://" + filepath.Join(t.TempDir(), "nobody")
	daemons := map[string]*process{}
	for name, args := range map[string][]string{
		"up": {"up", "--dir", t.TempDir()},
		"forwarder": {"forwarder", "--tap-file",
			filepath.Join(t.TempDir(), "tap")},
		"logger": {"logger", "--dir", t.TempDir(), "--spool", t.TempDir()},
		"logger that is a node without a broker": {"logger", "--dir", t.TempDir(),
			"--cluster-node", "logger-1", "--cluster-xsub", nowhere, "--cluster-xpub", nowhere},
		"balance without a logger": {"balance", "--to", nowhere},
		"logger whose Kafka is down": {"logger", "--sink", "kafka", "--kafka-broker",
			"127.0.0.1:1", "--spool", t.TempDir()},
		"forwarder without a handler": {"forwarder", "--zap-handler", nowhere},
	} {
		d := startListening(t, args...)
		if strings.Contains(d.Stderr.String(), "socket=PULL") {
			push := connect(t, d.Endpoint("PULL"))
			if err := push.Send(t.Context(), logMessage(t, "node", "test", "x")); err != nil {
				t.Fatal(err)
			}
		}
		daemons[name] = d
	}
	const watched = 4 * time.Second
	time.Sleep(time.Second) // the start itself
	before := map[string]time.Duration{}
	for name, d := range daemons {
		before[name] = cpuTime(t, d.Cmd.Process.Pid)
	}
	time.Sleep(watched)
	for name, d := range daemons {
		// With the race detector a tick costs more; a loop that spins takes all of the time
		// that it gets.
		if used := cpuTime(t, d.Cmd.Process.Pid) - before[name]; used > watched/10 {
			t.Errorf("%s: %v of CPU time in %v", name, used, watched)
		}
	}
}

// cpuTime returns the CPU time of a process.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc(5): utime and stime are fields 14 and 15, in ticks of 10 ms; the name, field 2, may have
	// spaces.
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	var ticks time.Duration
	for _, field := range fields[11:13] {
		var n int64
		if _, err := fmt.Sscan(field, &n); err != nil {
			t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}
