package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// In this process, the end of the context ends the daemon and leaves no goroutine.
func TestRunLeavesNothingBehind(t *testing.T) {
	tcp := "tcp://127.0.0.1:*"
	for name, args := range map[string][]string{
		"up": {"up", "--xsub", tcp, "--xpub", tcp, "--listen", tcp, "--http", "127.0.0.1:0",
			"--dir", t.TempDir()},
		"forwarder": {"forwarder", "--xsub", tcp, "--xpub", tcp, "--http", ""},
		"pull":      {"pull", "--bind", tcp},
		"sub":       {"sub", "--bind", tcp},
		"push":      {"push", "--bind", tcp},
		"pub":       {"pub", "--bind", tcp},
		"bench":     {"bench", "--listen", tcp},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stdin, input := io.Pipe()
			var stdout, stderr testkit.Output
			done := make(chan error, 1)
			go func() { done <- run(ctx, args, stdin, &stdout, &stderr) }()
			testkit.Eventually(t, "an endpoint",
				func() bool { return strings.Contains(stderr.String(), "listening") })
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%v\n%s", err, stderr.String())
			}
			input.Close() // a reader of standard input ends only with its input
			goleak.VerifyNone(t, before)
		})
	}
}

// A daemon whose port is taken leaves neither goroutines nor other ports behind.
func TestRunFailsClean(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var out testkit.Output
	err := run(t.Context(), []string{"up", "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:*",
		"--xpub", "tcp://127.0.0.1:*", "--xsub", "tcp://256.0.0.1:1", "--dir", t.TempDir()},
		strings.NewReader(""), &out, &out)
	if err == nil || !strings.Contains(err.Error(), "--xsub tcp://256.0.0.1:1") {
		t.Errorf("error %v", err)
	}
	goleak.VerifyNone(t, before)
}

func TestReportChoosesTheExitStatus(t *testing.T) {
	for want, err := range []error{
		0: nil,
		1: errors.New("some"),
		2: errors.Join(errors.New("some"), daemon.Usagef("wrong use")),
	} {
		var out strings.Builder
		if got := report(&out, err); got != want || (err == nil) != (out.String() == "") {
			t.Errorf("%v: %d, %q; want %d", err, got, out.String(), want)
		}
	}
}

// The reader of the output ends after the first line.
func TestClosedOutputIsACleanEnd(t *testing.T) {
	t.Parallel()
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	endpoint, err := push.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pull := exec.Command("zmtpd", "pull", "--connect", endpoint)
	pull.Stdout, pull.Stderr = w, os.Stderr
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- pull.Wait() }()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-ended
		cancel()
		ended <- nil
	}()
	if err := push.Send(ctx, zmtp.NewMessageString("first", "line")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "first\tline\n" {
		t.Errorf("read %q, %v", line, err)
	}
	r.Close()
	for push.Send(ctx, zmtp.NewMessageString("more")) == nil {
	}
	<-ended
	if status := pull.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}
