package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// soak is how long TestSoak takes: half a minute, or ZMTPD_SOAK.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ZMTPD_SOAK")
	if text == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("ZMTPD_SOAK: ", err)
	}
	return d
}

// A simulated cluster with slow and dying workers loses nothing that it should not, and the memory,
// goroutines and descriptors of broker and logger do not grow.
func TestSoak(t *testing.T) {
	t.Parallel()
	long := soak(t)
	dir := t.TempDir()
	up := startDaemon(t, "up", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--listen", "tcp://127.0.0.1:*", "--dir", dir, "--rotate", "0")
	simulation := start(t, nil, "simulate", "--xsub", up.Endpoint("XSUB"), "--xpub",
		up.Endpoint("XPUB"), "--push", up.Endpoint("PULL"), "--status",
		up.Endpoint("HTTP")+"/status", "--for", long.String(), "--slow", "1", "--dying", "1")
	testkit.Eventually(t, "log records", func() bool {
		return simulation.hasEnded() || up.status().Logger.Received.Records > 0
	})
	type use struct{ memory, goroutines, descriptors float64 }
	used := func() use {
		return use{up.Metric("process_resident_memory_bytes"), up.Metric("go_goroutines"),
			up.Metric("process_open_fds")}
	}
	// The highest of the first third, when everything is in use, and of the rest.
	var early, late use
	for began := time.Now(); !simulation.hasEnded(); {
		now, most := used(), &late
		if time.Since(began) < long/3 {
			most = &early
		}
		*most = use{max(most.memory, now.memory), max(most.goroutines, now.goroutines),
			max(most.descriptors, now.descriptors)}
		select {
		case <-simulation.Done():
		case <-time.After(long / 50):
		}
	}
	if status := simulation.Wait(); status != 0 {
		t.Errorf("exit status %d: %s", status, simulation.Stderr.String())
	}
	t.Logf("\n%s\nat first %.0f, later %.0f", simulation.Stdout.String(), early, late)
	for _, name := range []string{"Simulation::finding", "Simulation::host",
		"Simulation::indicator", "log records"} {
		if !strings.Contains(simulation.Stdout.String(), name) {
			t.Errorf("the report says nothing of %s", name)
		}
	}
	// A dying worker that comes back has several connections for a moment.
	const memory, goroutines, descriptors = 64 << 20, 30, 30
	if late.memory > early.memory+memory || late.goroutines > early.goroutines+goroutines ||
		late.descriptors > early.descriptors+descriptors {
		t.Errorf("memory, goroutines and descriptors have grown from %.0f to %.0f", early, late)
	}
	up.Terminate()
	for _, path := range []string{"conn", "dns", "http"} {
		log, err := os.ReadFile(filepath.Join(dir, path+".log"))
		if err != nil || strings.Count(string(log), "\n") < 10 {
			t.Errorf("%s.log: %v, %d bytes", path, err, len(log))
		}
	}
}

// Without a broker, or with values that make no cluster, simulate ends with an error.
func TestSimulateUsage(t *testing.T) {
	t.Parallel()
	logger := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", t.TempDir())
	forwarder := startDaemon(t, "forwarder")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--workers", "0"}, 2, "at least one worker"},
		{[]string{"--workers", "3", "--slow", "2", "--dying", "2"}, 2, "more than all 3"},
		{[]string{"--events", "many"}, 2, "a number a second"},
		{[]string{"--status", forwarder.Endpoint("HTTP") + "/status"}, 1,
			"is not the status of a logger"},
	} {
		p := start(t, nil, append([]string{"simulate", "--push", logger.Endpoint("PULL")},
			c.args...)...)
		if status := p.Wait(); status != c.status ||
			!strings.Contains(p.Stderr.String(), c.want) {
			t.Errorf("%v: exit status %d, stderr %s", c.args, status, p.Stderr.String())
		}
	}
}
