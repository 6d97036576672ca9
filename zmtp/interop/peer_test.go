//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// patience is how long anything may take that should happen at once on a machine that is not busy.
const patience = testkit.Patience

// peer is a process with libzmq sockets, testdata/peer.py.
type peer struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.Writer
	replies chan reply // in the order of the commands; closed when the process has ended
	stderr  bytes.Buffer
	sockets int
	killed  bool
	kill    func() // kill -9
}

// args are those of a command, by the names that peer.py has for them.
type args map[string]any

// reply is the answer to a command.
type reply struct {
	Error     string
	Endpoint  string
	Endpoints []string
	OK        bool
	Parts     []blob
	Text      *string
	N         int
	Sources   tally
	Event     uint16
	Value     uint32
}

// startPeer starts a peer that ends with the test.
func startPeer(t *testing.T) *peer {
	t.Helper()
	python, err := python()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, cmd: exec.Command(python, filepath.Join("testdata", "peer.py")), replies: make(chan reply, 16)}
	p.cmd.Stderr = &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	p.kill = sync.OnceFunc(func() {
		p.killed = true
		p.cmd.Process.Kill()
		for range p.replies { // Wait closes the pipe that read reads
		}
		p.cmd.Wait()
		in.Close()
	})
	t.Cleanup(func() {
		p.kill()
		if p.stderr.Len() > 0 && t.Failed() {
			t.Logf("libzmq peer: %s", p.stderr.Bytes())
		}
	})
	return p
}

func (p *peer) read(out io.Reader) {
	defer close(p.replies)
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var r reply
		if dec.Decode(&r) != nil {
			return
		}
		p.replies <- r
	}
}

// signal sends a signal to the process.
func (p *peer) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// start sends a command and returns a function that waits for the answer. Answers must be taken in the order of the commands.
func (p *peer) start(t *testing.T, op string, a args) func() reply {
	t.Helper()
	line := args{"op": op}
	for k, v := range a {
		line[k] = v
	}
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		t.Fatalf("libzmq peer, %s: %v", op, err)
	}
	return func() reply {
		t.Helper()
		select {
		case r, ok := <-p.replies:
			if !ok {
				t.Fatalf("libzmq peer, %s: the process has ended", op)
			}
			if r.Error != "" {
				t.Fatalf("libzmq peer, %s %v: %s", op, a, r.Error)
			}
			return r
		case <-time.After(2 * patience):
			t.Fatalf("libzmq peer, %s: no answer", op)
		}
		return reply{}
	}
}

func (p *peer) call(t *testing.T, op string, a args) reply {
	t.Helper()
	return p.start(t, op, a)()
}

// proxy starts libzmq's broker on ephemeral ports.
func (p *peer) proxy() (xsub, xpub string) {
	p.t.Helper()
	r := p.call(p.t, "proxy", args{"xsub": "tcp://127.0.0.1:*", "xpub": "tcp://127.0.0.1:*"})
	return r.Endpoints[0], r.Endpoints[1]
}

// maxHex is from which size on bytes do not go through the pipe: they must be a pattern then.
const maxHex = 128 << 10

// pattern returns n bytes that peer.py can make too. Patterns of different sizes have nothing in common.
var patterns sync.Map // of int to string

func pattern(n int) string {
	if s, ok := patterns.Load(n); ok {
		return s.(string)
	}
	h := sha3.NewSHAKE128()
	h.Write([]byte(strconv.Itoa(n)))
	b := make([]byte, n)
	h.Read(b)
	s, _ := patterns.LoadOrStore(n, string(b))
	return s.(string)
}

// blob is bytes on their way from or to a peer.
type blob string

type blobJSON struct {
	Hex     string `json:"hex,omitempty"`
	Pattern int    `json:"pattern,omitempty"`
	Hashed  bool   `json:"hashed,omitempty"` // hex is the hash of bytes that are too many and no pattern
}

func (b blob) MarshalJSON() ([]byte, error) {
	if len(b) <= maxHex {
		return json.Marshal(blobJSON{Hex: hex.EncodeToString([]byte(b))})
	}
	if string(b) != pattern(len(b)) {
		panic("interop: large bytes that are no pattern")
	}
	return json.Marshal(blobJSON{Pattern: len(b)})
}

func (b *blob) UnmarshalJSON(data []byte) error {
	var j blobJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	switch {
	case j.Hashed:
		*b = blob("bytes that are not as they were sent, SHA-256 " + j.Hex)
	case j.Pattern > 0:
		*b = blob(pattern(j.Pattern))
	default:
		raw, err := hex.DecodeString(j.Hex)
		if err != nil {
			return err
		}
		*b = blob(raw)
	}
	return nil
}

func blobs(parts []string) []blob {
	all := make([]blob, len(parts))
	for i, p := range parts {
		all[i] = blob(p)
	}
	return all
}

func texts(parts []blob) []string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = string(p)
	}
	return all
}
