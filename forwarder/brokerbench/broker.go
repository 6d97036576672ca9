package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// broker is a running process.
type broker struct {
	cmd        *exec.Cmd
	xsub, xpub string // host:port
}

var bound = regexp.MustCompile(`tcp://(127\.0\.0\.1:\d+)`)

// start runs a broker and waits until it has printed its two addresses: as two ports on standard
// output, or, for zmtpd, as endpoints on standard error, XSUB first.
func start(ctx context.Context, argv []string, keys *keys) (*broker, error) {
	b := &broker{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	b.cmd.Env = keys.environment()
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	var text strings.Builder
	both := bufio.NewReader(io.MultiReader(stdout))
	if strings.HasSuffix(argv[0], "zmtpd") || len(argv) > 1 {
		both = bufio.NewReader(stderr)
	}
	for {
		line, err := both.ReadString('\n')
		text.WriteString(line)
		var in, out int
		if n, _ := fmt.Sscanf(line, "%d %d", &in, &out); n == 2 {
			b.xsub, b.xpub = fmt.Sprintf("127.0.0.1:%d", in), fmt.Sprintf("127.0.0.1:%d", out)
		}
		for _, m := range bound.FindAllStringSubmatch(line, -1) {
			if strings.Contains(strings.ToLower(line), "xsub") {
				b.xsub = m[1]
			} else {
				b.xpub = m[1]
			}
		}
		if b.xsub != "" && b.xpub != "" {
			go io.Copy(io.Discard, both)
			return b, nil
		}
		if err != nil {
			b.stop()
			return nil, fmt.Errorf("broker did not say its addresses: %w\n%s", err, text.String())
		}
	}
}

// stop ends the process.
func (b *broker) stop() error {
	b.cmd.Process.Kill()
	err := b.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// cpu returns the CPU time of all threads of the process, from the scheduler's account in
// nanoseconds.
func (b *broker) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has just ended
		}
		field, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(ns)
	}
	if sum == 0 {
		return 0, fmt.Errorf("no schedstat of process %d: Linux is needed", b.cmd.Process.Pid)
	}
	return sum, nil
}
