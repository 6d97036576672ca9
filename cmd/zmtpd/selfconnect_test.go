package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp/testkit"
)

// A balancer that sent to itself would receive every batch again, for ever.
func TestBalanceRefusesItself(t *testing.T) {
	t.Parallel()
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.LookupHost(hostname); err != nil {
		hostname = "localhost"
	}
	for _, c := range []struct{ listen, to string }{
		{"tcp://127.0.0.1:%d", "tcp://127.0.0.1:%d"},
		{"tcp://127.0.0.1:%d", "tcp://localhost:%d"},
		{"tcp://127.0.0.1:%d", "tcp://0.0.0.0:%d"},
		{"tcp://127.0.0.1:%d", "tcp://127.0.0.1:0;127.0.0.1:%d"},
		{"tcp://localhost:%d", "tcp://127.0.0.1:%d"},
		{"tcp://lo:%d", "tcp://127.0.0.1:%d"},
		{"tcp://*:%d", "tcp://127.0.0.1:%d"},
		{"tcp://*:%d", "tcp://localhost:%d"},
		{"tcp://*:%d", "tcp://" + hostname + ":%d"},
		{"tcp://0.0.0.0:%d", "tcp://127.0.0.2:%d"},
	} {
		t.Run(c.listen+" "+c.to, func(t *testing.T) {
			for {
				port := testkit.ReservePort(t)
				listen, to := fmt.Sprintf(c.listen, port), fmt.Sprintf(c.to, port)
				status, _, stderr := runHere(t, nil, "balance", "--listen", listen, "--http",
					"127.0.0.1:0", "--to", to)
				if strings.Contains(stderr, "another process listens there already") {
					continue // at another address
				}
				if status != 2 || !strings.Contains(stderr,
					"--to "+to+": zmtpd itself listens there (--listen ") {
					t.Errorf("exit status %d, stderr\n%s", status, stderr)
				}
				return
			}
		})
	}
}

func TestBalanceRefusesItsOwnSocketFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, link := filepath.Join(dir, "s"), filepath.Join(dir, "l")
	if err := os.Symlink(socket, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{socket, dir + "/./s", link} {
		status, _, stderr := runHere(t, nil, "balance", "--listen", "ipc://"+socket, "--http", "",
			"--to", "ipc://"+to)
		if status != 2 || !strings.Contains(stderr, "zmtpd itself listens there") {
			t.Errorf("--to %s: exit status %d, stderr\n%s", to, status, stderr)
		}
	}
}

// A daemon checks all endpoints to which it connects against all at which it listens.
func TestDaemonRefusesItselfAsZAPHandler(t *testing.T) {
	t.Parallel()
	socket := "ipc://" + filepath.Join(t.TempDir(), "s")
	status, _, stderr := runHere(t, nil, "forwarder", "--xsub", anyPort, "--xpub", socket, "--http",
		"", "--zap-handler", socket)
	if status != 2 || !strings.Contains(stderr,
		"--zap-handler "+socket+": zmtpd itself listens there (--xpub ") {
		t.Errorf("exit status %d, stderr\n%s", status, stderr)
	}
}

// A broker with --tap-file appends what is replayed to it to the very file that is replayed.
func TestReplayOfGrowingFileEnds(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "tap")
	var content []byte
	const n = 100
	for i := range n {
		var err error
		if content, err = recording.AppendMessage(content,
			fmt.Append(nil, "topic.", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--tap-file", name)
	sub := start(t, nil, "sub", "--connect", d.Endpoint("XPUB"), "--topic", "topic.", "--count",
		fmt.Sprint(n))
	testkit.Eventually(t, "the subscription",
		func() bool { return d.Metric("zmtpd_forwarder_topics") == 1 })
	// At this rate the recording of the first messages is in the file long before the last one is
	// read.
	p := start(t, nil, "replay", name, "--xsub", d.Endpoint("XSUB"), "--rate", "30")
	if status := p.Wait(); status != 0 ||
		!strings.Contains(p.Stderr.String(), fmt.Sprintf("replayed %d messages", n)) {
		t.Errorf("exit status %d, stderr\n%s", status, p.Stderr.String())
	}
	sub.Wait()
	d.Terminate()
	file, err := os.Stat(name)
	if err != nil || file.Size() != 2*int64(len(content)) {
		t.Errorf("the file has %d bytes, %v; want the messages twice, %d", file.Size(), err,
			2*len(content))
	}
}
