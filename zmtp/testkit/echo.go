package testkit

import (
	"bufio"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/echo.c
var echoProgram []byte

// Echo is a socket of a libzmq that has PEER and wss, in a process of its own: a DEALER or a PEER
// that returns each message if it binds, or sends messages and expects them back if it connects.
// See testdata/echo.c.
type Echo struct {
	// Endpoint is that of one that binds.
	Endpoint string

	t   testing.TB
	cmd *exec.Cmd
}

// StartEcho starts a socket, with the arguments of testdata/echo.c. No distribution has a libzmq
// that can do what it needs, and npm's has no way to set a routing id, and no TLS. So the test is
// skipped unless ZMTPD_LIBZMQ names the folder where somebody has installed one, which was
// configured with
//
//	cmake -DENABLE_DRAFTS=ON -DENABLE_WS=ON -DWITH_TLS=ON
func StartEcho(t testing.TB, args ...string) *Echo {
	t.Helper()
	prefix := os.Getenv("ZMTPD_LIBZMQ")
	if prefix == "" {
		t.Skip("ZMTPD_LIBZMQ names no libzmq with drafts and TLS, see testkit.StartEcho")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "echo.c"), filepath.Join(dir, "echo")
	if err := os.WriteFile(source, echoProgram, 0o600); err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(prefix, "lib")
	if err := Compile(program, source, "-I"+filepath.Join(prefix, "include"), "-L"+lib,
		"-Wl,-rpath,"+lib, "-lzmq"); err != nil {
		t.Fatal(err)
	}
	// The deadline ends it: a libzmq that gets no answer waits for ever.
	e := &Echo{t: t, cmd: exec.CommandContext(Context(t), program, args...)}
	e.cmd.Stderr = os.Stderr
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if e.cmd.ProcessState == nil {
			e.cmd.Process.Kill()
			e.cmd.Wait()
		}
	})
	if args[1] == "bind" {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("libzmq does not bind: %v", err)
		}
		e.Endpoint = strings.TrimSpace(line)
	}
	return e
}

// Wait waits until one that connects has received all its messages back.
func (e *Echo) Wait() {
	e.t.Helper()
	if err := e.cmd.Wait(); err != nil {
		e.t.Errorf("libzmq's socket: %v", err)
	}
}
