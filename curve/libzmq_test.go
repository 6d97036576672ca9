//go:build unix

package curve

import (
	"bufio"
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// peer is a process with libzmq sockets, driven with lines of JSON: the program of package interop,
// which must not import this one.
type peer struct {
	t       *testing.T
	in      io.Writer
	out     *json.Decoder
	sockets int
}

var peerProgram = filepath.Join("..", "zmtp", "interop", "testdata", "peer.py")

// python returns a Python that has pyzmq with CURVE.
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
	return "", fmt.Errorf("no Python with pyzmq; on Debian: apt-get install -y python3-zmq\n%w", all)
})

// startPeer starts a peer that ends with the test.
func startPeer(t *testing.T) *peer {
	t.Helper()
	python, err := python()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, peerProgram)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("libzmq peer: %s", stderr.Bytes())
		}
	})
	return &peer{t: t, in: in, out: json.NewDecoder(bufio.NewReader(out))}
}

type args map[string]any

type reply struct {
	Error    string
	Endpoint string
	OK       bool
	Parts    []blob
	Event    uint16
	Value    uint32
}

// call has the peer do something and returns its answer. Arguments are by the names that peer.py
// has for them.
func (p *peer) call(op string, a args) reply {
	p.t.Helper()
	a["op"] = op
	line, err := json.Marshal(a)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	var r reply
	if err := p.out.Decode(&r); err != nil {
		p.t.Fatalf("libzmq peer at %s: %v", op, err)
	}
	if r.Error != "" {
		p.t.Fatalf("libzmq peer at %s: %s", op, r.Error)
	}
	return r
}

// blob is a byte string in peer.py's form: large ones are pattern of their length.
type blob []byte

func pattern(n int) []byte { return sha3.SumSHAKE128([]byte(strconv.Itoa(n)), n) }

func (b blob) MarshalJSON() ([]byte, error) {
	if len(b) > 1<<16 && bytes.Equal(b, pattern(len(b))) {
		return json.Marshal(map[string]int{"pattern": len(b)})
	}
	return json.Marshal(map[string]string{"hex": hex.EncodeToString(b)})
}

func (b *blob) UnmarshalJSON(text []byte) error {
	var v struct {
		Hex     string
		Pattern *int
		Hashed  bool
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	if v.Hashed {
		return errors.New("a large part that is no pattern")
	}
	if v.Pattern != nil {
		*b = pattern(*v.Pattern)
		return nil
	}
	var err error
	*b, err = hex.DecodeString(v.Hex)
	return err
}

// theirEnd is a socket of the peer.
type theirEnd struct {
	*peer
	name string
}

// keys are what one side of a test has.
type keys struct {
	server Secret // of a server
	of     Key    // of a client: the server that it wants
	own    Secret // of a client
}

func (p *peer) open(t *testing.T, kind string, role role, k keys, more args) *theirEnd {
	t.Helper()
	p.t = t
	p.sockets++
	s := &theirEnd{p, strconv.Itoa(p.sockets)}
	set := args{}
	for name, value := range more {
		set[name] = value
	}
	if role == asServer {
		set["CURVE_SERVER"], set["CURVE_SECRETKEY"] = 1, blob(k.server[:])
	} else {
		public := k.own.Public()
		set["CURVE_SERVERKEY"], set["CURVE_PUBLICKEY"], set["CURVE_SECRETKEY"] = blob(k.of[:]),
			blob(public[:]), blob(k.own[:])
	}
	p.call("socket", args{"name": s.name, "type": kind, "options": set})
	t.Cleanup(s.close)
	return s
}

func (s *theirEnd) close() {
	if s.name != "" {
		s.call("close", args{"name": s.name, "linger": 0})
		s.name = ""
	}
}

func (s *theirEnd) listen() string {
	s.t.Helper()
	return s.call("bind", args{"name": s.name, "endpoint": "tcp://127.0.0.1:*"}).Endpoint
}

func (s *theirEnd) connect(endpoint string) {
	s.t.Helper()
	s.call("connect", args{"name": s.name, "endpoint": endpoint})
}

func (s *theirEnd) subscribe(topic string) {
	s.t.Helper()
	s.call("set", args{"name": s.name, "option": "SUBSCRIBE", "value": blob(topic)})
}

func (s *theirEnd) trySend(parts ...[]byte) bool {
	s.t.Helper()
	blobs := make([]blob, len(parts))
	for i, p := range parts {
		blobs[i] = p
	}
	return s.call("send", args{"name": s.name, "parts": blobs, "timeout": patience.Milliseconds()}).OK
}

func (s *theirEnd) tryRecv(wait bool) ([][]byte, bool) {
	s.t.Helper()
	timeout := moment
	if wait {
		timeout = patience
	}
	r := s.call("recv", args{"name": s.name, "timeout": timeout.Milliseconds()})
	parts := make([][]byte, len(r.Parts))
	for i, b := range r.Parts {
		parts[i] = b
	}
	return parts, r.OK
}

// event waits for one of these events of the socket, which must be watched, and returns it with its
// value.
func (s *theirEnd) event(types ...uint16) (uint16, uint32) {
	s.t.Helper()
	for {
		r := s.call("event", args{"name": s.name, "timeout": patience.Milliseconds()})
		if !r.OK {
			s.t.Fatalf("libzmq: none of the events %#x", types)
		}
		for _, want := range types {
			if r.Event == want {
				return r.Event, r.Value
			}
		}
	}
}
