package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"zmtpd/cmd/zmtpd/top"
	"zmtpd/zmtp/testkit"
)

// startCluster starts up with a simulated cluster that has ended its work.
func startCluster(t *testing.T) (up *process) {
	t.Helper()
	up = startDaemon(t, "up", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--listen", "tcp://127.0.0.1:*", "--dir", t.TempDir())
	runTool(t, nil, "simulate", "--xsub", up.Endpoint("XSUB"), "--xpub", up.Endpoint("XPUB"),
		"--push", up.Endpoint("PULL"), "--status", up.Endpoint("HTTP")+"/status", "--for", "1s")
	return up
}

// The numbers of zmtpd top --once --json are those of /status.
func TestTopOnce(t *testing.T) {
	t.Parallel()
	up := startCluster(t)
	sub := start(t, nil, "sub", "--connect", up.Endpoint("XPUB"), "--topic", "zeek.")
	var st status
	testkit.Eventually(t, "the subscriber alone", func() bool {
		st = up.status()
		return len(st.Forwarder.XPub.Peers) == 1 && len(st.Forwarder.XSub.Peers) == 0
	})
	args := []string{"top", "--once", "--interval", "10ms", up.Endpoint("HTTP")}
	var s top.Snapshot
	if err := json.Unmarshal([]byte(runTool(t, nil, append(args, "--json")...)), &s); err != nil {
		t.Fatal(err)
	}
	st = up.status()
	d := s.Daemons[0]
	if d.EventsIn != st.Forwarder.Received.Messages || d.EventsIn == 0 ||
		d.EventsOut != st.Forwarder.Account.Delivered || d.Records != st.Logger.Received.Records ||
		d.Records == 0 || d.Version != st.Version || !d.Ready {
		t.Errorf("%+v differs from /status", d)
	}
	if len(s.Nodes) != 1 || s.Nodes[0].Sent != st.Forwarder.XPub.Peers[0].Sent.Messages ||
		s.Nodes[0].Address != st.Forwarder.XPub.Peers[0].Address {
		t.Errorf("nodes %+v", s.Nodes)
	}
	if len(s.Topics) != len(st.Forwarder.ByTopic) {
		t.Errorf("%d topics, want %d", len(s.Topics), len(st.Forwarder.ByTopic))
	}
	for _, topic := range s.Topics {
		if want := st.Forwarder.ByTopic[topic.Topic]; topic.Messages != want.Messages ||
			topic.Bytes != want.Bytes {
			t.Errorf("topic %+v, want %+v", topic, want)
		}
	}
	paths := st.Logger.sink(t, "files").Paths
	if len(s.Logs) != len(paths) || len(paths) == 0 {
		t.Errorf("%d logs, want %d", len(s.Logs), len(paths))
	}
	for _, p := range paths {
		found := false
		for _, l := range s.Logs {
			found = found || l.Path == p.Path && l.Received == p.Received.Records &&
				l.Written == p.Written.Records
		}
		if !found {
			t.Errorf("log %+v is not in %+v", p, s.Logs)
		}
	}
	text := runTool(t, nil, args...)
	for _, want := range []string{"conn", "zeek.", "records/s*", "lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// A daemon that does not answer, and a column that does not exist.
	p := start(t, nil, append(args, "127.0.0.1:1")...)
	if status := p.Wait(); status != 1 || !strings.Contains(p.Stdout.String(), "127.0.0.1:1: no answer") {
		t.Errorf("exit status %d, %s", status, p.Stdout.String())
	}
	p = start(t, nil, append(args, "--sort", "size")...)
	if status := p.Wait(); status != 2 || !strings.Contains(p.Stderr.String(), "the columns are") {
		t.Errorf("exit status %d, %s", status, p.Stderr.String())
	}
	sub.Signal(os.Interrupt)
	sub.Wait()
}

// The live view in a terminal, with the real binary: it shows the logs and ends with q.
func TestTopTerminal(t *testing.T) {
	t.Parallel()
	up := startCluster(t)
	screen, terminal := openTerminal(t, 100)
	c := exec.Command("zmtpd", "top", "--interval", "100ms", up.Endpoint("HTTP"))
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.Env = append(testkit.Environ(), "TERM=xterm")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	var mu sync.Mutex
	var written bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := screen.Read(b)
			mu.Lock()
			written.Write(b[:n])
			mu.Unlock()
			if err != nil {
				return // the other side is closed
			}
		}
	}()
	shows := func(what string) {
		t.Helper()
		testkit.Eventually(t, what+" on the terminal", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(written.String(), what)
		})
	}
	shows("queue*")
	if _, err := screen.Write([]byte("\t")); err != nil {
		t.Fatal(err)
	}
	shows("conn")
	if _, err := screen.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%q", err, written.String())
	}
	testkit.Done(t, "the end of the terminal", read)
	if !strings.Contains(written.String(), "\x1b[?1049l") {
		t.Error("the terminal is not restored")
	}
}
