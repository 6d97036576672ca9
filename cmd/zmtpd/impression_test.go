package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// A tool that is not connected prints the reason, and prints it again when it changes.
func TestToolSaysWhyItIsNotConnected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	endpoint := "ipc://" + filepath.Join(dir, "xpub")
	keys := newKeyFolder(t)
	keys.addServer("server")
	keys.add("somebody", [32]byte{9})
	sub := start(t, nil, "sub", "--connect", endpoint)
	says := func(what string) {
		t.Helper()
		testkit.Eventually(t, what,
			func() bool { return strings.Contains(sub.Stderr.String(), what) })
	}
	says("zmtpd: " + endpoint + ": cannot connect: no such file or directory; trying again\n")

	broker := startDaemon(t, append([]string{"forwarder", "--xpub", endpoint}, keys.flags()...)...)
	says(`peer wants mechanism "CURVE", we want "NULL" (CURVE needs --curve-server-key and --curve-secret-key-file`)
	broker.Terminate()
	startDaemon(t, "forwarder", "--xpub", endpoint)
	says("zmtpd: " + endpoint + ": connected\n")
	if n := strings.Count(sub.Stderr.String(), "CURVE"); n > 2 {
		t.Errorf("a reason that stays the same is repeated:\n%s", sub.Stderr.String())
	}
	sub.Terminate()
}

func TestEveryToolSaysThatItIsNotConnected(t *testing.T) {
	t.Parallel()
	port := testkit.ReservePort(t)
	endpoint := fmt.Sprintf("tcp://127.0.0.1:%d", port)
	recording := filepath.Join(t.TempDir(), "recording")
	writeRecording(t, recording, "x")
	for _, args := range [][]string{
		{"pub", "--connect", endpoint}, {"sub", "--connect", endpoint},
		{"pull", "--connect", endpoint},
		{"push", "--connect", endpoint}, {"replay", recording, "--push", endpoint},
		{"replay", recording, "--xsub", endpoint},
	} {
		p := start(t, strings.NewReader("x\n"), args...)
		testkit.Eventually(t, args[0], func() bool {
			return strings.Contains(p.Stderr.String(),
				"zmtpd: "+endpoint+": cannot connect: connection refused; trying again\n")
		})
		p.Cmd.Process.Kill()
	}
}

func TestStartIsDescribed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "zmtpd.yaml")
	writeFile(t, config, "rotate: 1h\n")
	d := startDaemon(t, "up", "--config", config, "--dir", dir, "--spool",
		filepath.Join(dir, "spool"), "--format", "json")
	line, _, _ := strings.Cut(d.Stderr.String(), "\n")
	for _, want := range []string{
		"msg=starting version=", " command=up ", " config=" + config + " ", " encrypted=false ",
		" overload=adaptive ",
		" sinks=[files] ", " format=json ", " dir=" + dir + " ", " rotate=1h0m0s ", " spool=" +
			filepath.Join(dir, "spool"),
	} {
		if !strings.Contains(line+" ", want) {
			t.Errorf("the first line does not say %q: %s", want, line)
		}
	}
	if strings.Contains(d.Stderr.String(), "other hosts can reach") {
		t.Errorf("a warning without reason:\n%s", d.Stderr.String())
	}
}

// The log warns about endpoints that other hosts can reach without encryption, and about no others.
func TestExposedEndpointsAreWarnedOf(t *testing.T) {
	t.Parallel()
	const http, socket = "other hosts can reach HTTP", "other hosts can reach the socket"
	keys := newKeyFolder(t)
	keys.addServer("server")
	keys.add("somebody", [32]byte{9})
	for _, c := range []struct {
		args                  []string
		wantHTTP, wantSockets int
	}{
		{[]string{"--xsub", "tcp://0.0.0.0:*", "--http", "127.0.0.1:0"}, 0, 1},
		{[]string{"--xsub", "tcp://*:*", "--xpub", "tcp://*:*", "--http", "0.0.0.0:0"}, 1, 2},
		{append(keys.flags(), "--xsub", "tcp://*:*", "--http", "127.0.0.1:0"), 0, 0},
	} {
		p := start(t, nil, append([]string{"forwarder"}, c.args...)...)
		testkit.Eventually(t, "listening",
			func() bool { return strings.Contains(p.Stderr.String(), "socket=HTTP") })
		p.Terminate()
		log := p.Stderr.String()
		if strings.Count(log, http) != c.wantHTTP || strings.Count(log, socket) != c.wantSockets {
			t.Errorf("%q: want %d warnings of HTTP and %d of sockets:\n%s", c.args, c.wantHTTP,
				c.wantSockets, log)
		}
	}
}

// A logger that cannot write is not ready, and /readyz says why.
func TestLoggerThatCannotWriteIsNotReady(t *testing.T) {
	t.Parallel()
	dir := testkit.Tmpfs(t, 1<<20)
	d := startDaemon(t, "logger", "--dir", dir, "--sink-queue", "64KiB")
	push := connect(t, d.Endpoint("PULL"))
	text := strings.Repeat("x", 64<<10)
	go func() {
		for push.Send(testkit.Context(t), logMessage(t, "node", "test", text)) == nil {
		}
	}()
	testkit.Eventually(t, "not ready", func() bool {
		status, body := d.Get("/readyz")
		return status == http.StatusServiceUnavailable &&
			strings.HasPrefix(body, "not ready: logger: ") &&
			strings.Contains(body, "no space left")
	})
	if s := d.status(); s.Ready || !strings.Contains(s.NotReady, "no space left") {
		t.Errorf("status says ready %v, %q", s.Ready, s.NotReady)
	}
}

func TestBalancerSaysWhyItIsNotReady(t *testing.T) {
	t.Parallel()
	d := startListening(t, "balance", "--to", "ipc://"+filepath.Join(t.TempDir(), "nobody"))
	if status, body := d.Get("/readyz"); status != http.StatusServiceUnavailable ||
		body != "not ready: balance: no logger of --to is connected; the nodes wait\n" {
		t.Errorf("%d %q", status, body)
	}
}
