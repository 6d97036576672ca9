package testkit

import (
	"bufio"
	"bytes"
	"crypto/sha3"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Libzmq is a process with sockets of libzmq, which is driven from outside: peer.py, whose methods
// are the commands.
type Libzmq struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      io.Writer
	replies chan Reply // in the order of the commands; closed when the process has ended
	stderr  bytes.Buffer
	killed  bool
	kill    func()
}

// Args are the arguments of a command, by the names that peer.py has for them.
type Args map[string]any

// Reply is the answer to a command; which members it has depends on the command.
type Reply struct {
	Error     string
	Endpoint  string
	Endpoints []string
	OK        bool
	Parts     []Blob
	Text      *string
	N         int
	Sources   map[string][]int
	Event     uint16
	Value     uint32
	Values    []int
}

//go:embed peer.py
var peerProgram string

// python finds a Python that has pyzmq with CURVE. Debian's package belongs to Debian's Python,
// which need not be the first in PATH.
var python = sync.OnceValues(func() (string, error) {
	var all error
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(name, "-c",
			"import zmq; assert zmq.zmq_version_info() >= (4, 3) and zmq.has('curve')").CombinedOutput()
		if err == nil {
			return name, nil
		}
		all = errors.Join(all, fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out)))
	}
	return "", fmt.Errorf("no Python with pyzmq; on Debian: apt-get install -y python3-zmq\n%w",
		all)
})

// Python returns a Python that has pyzmq.
func Python(t testing.TB) string {
	t.Helper()
	name, err := python()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// StartLibzmq starts a process with sockets of libzmq, which ends with the test.
func StartLibzmq(t testing.TB) *Libzmq {
	t.Helper()
	return start(t, exec.Command(Python(t), "-c", peerProgram))
}

//go:embed peer.js
var nodeProgram string

// StartZeroMQJS starts a process with sockets of the libzmq 4.3.5 in npm's zeromq, which has
// libzmq's draft types and WebSocket. It ends with the test. Without that package, which
// .ci/test-deps installs where there is npm, the test is skipped, or fails if it runs in CI. The
// commands are those of peer.js.
func StartZeroMQJS(t testing.TB) *Libzmq {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "zmtpd", "npm")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "zeromq")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("run .ci/test-deps: %v", err)
		}
		t.Skipf("no zeromq of npm, run .ci/test-deps: %v", err)
	}
	return start(t, exec.Command("node", "--no-warnings", "-e", nodeProgram, dir))
}

// start starts a process that is driven with commands.
func start(t testing.TB, cmd *exec.Cmd) *Libzmq {
	t.Helper()
	z := &Libzmq{t: t, cmd: cmd, replies: make(chan Reply, 16)}
	z.cmd.Stderr = &z.stderr
	in, err := z.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	z.in = in
	out, err := z.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := z.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go z.read(out)
	z.kill = sync.OnceFunc(func() {
		z.killed = true
		z.cmd.Process.Kill()
		for range z.replies { // Wait closes the pipe that read reads
		}
		z.cmd.Wait()
		in.Close()
	})
	t.Cleanup(func() {
		z.kill()
		if z.stderr.Len() > 0 && t.Failed() {
			t.Logf("libzmq: %s", z.stderr.Bytes())
		}
	})
	return z
}

func (z *Libzmq) read(out io.Reader) {
	defer close(z.replies)
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var r Reply
		if dec.Decode(&r) != nil {
			return
		}
		z.replies <- r
	}
}

// Kill kills the process, as kill -9 does.
func (z *Libzmq) Kill() { z.kill() }

// Killed says whether the process was killed.
func (z *Libzmq) Killed() bool { return z.killed }

// Signal sends a signal to the process.
func (z *Libzmq) Signal(s os.Signal) {
	z.t.Helper()
	if err := z.cmd.Process.Signal(s); err != nil {
		z.t.Fatal(err)
	}
}

// Start sends a command and returns a function that waits for the answer. Answers must be taken in
// the order of the commands. What fails, fails t, which may be a part of the test that started the
// process.
func (z *Libzmq) Start(t testing.TB, op string, a Args) func() Reply {
	t.Helper()
	line := Args{"op": op}
	for k, v := range a {
		line[k] = v
	}
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.in.Write(append(b, '\n')); err != nil {
		t.Fatalf("libzmq, %s: %v", op, err)
	}
	return func() Reply {
		t.Helper()
		select {
		case r, ok := <-z.replies:
			if !ok {
				t.Fatalf("libzmq, %s: the process has ended", op)
			}
			if r.Error != "" {
				t.Fatalf("libzmq, %s %v: %s", op, a, r.Error)
			}
			return r
		case <-time.After(2 * Patience): // commands may wait for Patience
			t.Fatalf("libzmq, %s: no answer", op)
		}
		return Reply{}
	}
}

// Call sends a command and waits for the answer.
func (z *Libzmq) Call(t testing.TB, op string, a Args) Reply {
	t.Helper()
	return z.Start(t, op, a)()
}

// maxHex is from which size on bytes do not go through the pipe: they must be a pattern then.
const maxHex = 128 << 10

var patterns sync.Map // of int to string

// Pattern returns n bytes that the process can make too, which is how large parts go to and from
// it. Patterns of different sizes have nothing in common.
func Pattern(n int) string {
	if s, ok := patterns.Load(n); ok {
		return s.(string)
	}
	s, _ := patterns.LoadOrStore(n, string(sha3.SumSHAKE128([]byte(strconv.Itoa(n)), n)))
	return s.(string)
}

// Blob is bytes on their way to or from the process. Those of more than 128 KiB must be a
// [Pattern].
type Blob string

type blobJSON struct {
	Hex     string `json:"hex,omitempty"`
	Pattern int    `json:"pattern,omitempty"`
	Hashed  bool   `json:"hashed,omitempty"` // hex is the hash of bytes that are too many and no pattern
}

// MarshalJSON implements [json.Marshaler].
func (b Blob) MarshalJSON() ([]byte, error) {
	if len(b) <= maxHex {
		return json.Marshal(blobJSON{Hex: hex.EncodeToString([]byte(b))})
	}
	if string(b) != Pattern(len(b)) {
		panic("testkit: large bytes that are no pattern")
	}
	return json.Marshal(blobJSON{Pattern: len(b)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (b *Blob) UnmarshalJSON(data []byte) error {
	var j blobJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	switch {
	case j.Hashed:
		*b = Blob("bytes that are not as they were sent, SHA-256 " + j.Hex)
	case j.Pattern > 0:
		*b = Blob(Pattern(j.Pattern))
	default:
		raw, err := hex.DecodeString(j.Hex)
		if err != nil {
			return err
		}
		*b = Blob(raw)
	}
	return nil
}

// Blobs returns the parts of a message for a command.
func Blobs[B string | []byte](parts []B) []Blob {
	all := make([]Blob, len(parts))
	for i, p := range parts {
		all[i] = Blob(p)
	}
	return all
}

// Texts returns the parts of a message in a reply.
func Texts(parts []Blob) []string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = string(p)
	}
	return all
}
