package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zmtpd/curve"
)

// python returns a Python that has pyzmq with CURVE.
var python = sync.OnceValues(func() (string, error) {
	var all error
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(name, "-c", "import zmq; assert zmq.zmq_version_info() >= (4, 3) and zmq.has('curve')").CombinedOutput()
		if err == nil {
			return name, nil
		}
		all = errors.Join(all, fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out)))
	}
	return "", fmt.Errorf("no Python with pyzmq; on Debian: apt-get install -y python3-zmq\n%w", all)
})

// libzmq is a process with libzmq sockets: the program of package interop.
type libzmq struct {
	t   *testing.T
	in  io.Writer
	out *json.Decoder
}

func startLibzmq(t *testing.T) *libzmq {
	t.Helper()
	python, err := python()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, filepath.Join("..", "..", "zmtp", "interop", "testdata", "peer.py"))
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
			t.Logf("libzmq: %s", stderr.Bytes())
		}
	})
	return &libzmq{t, in, json.NewDecoder(bufio.NewReader(out))}
}

type args map[string]any

type libzmqReply struct {
	Error, Endpoint string
	OK              bool
	Parts           []struct{ Hex string }
	Event           uint16
	Value           uint32
}

func (z *libzmq) call(op string, a args) (r libzmqReply) {
	z.t.Helper()
	a["op"] = op
	line, err := json.Marshal(a)
	if err != nil {
		z.t.Fatal(err)
	}
	if _, err := z.in.Write(append(line, '\n')); err != nil {
		z.t.Fatal(err)
	}
	if err := z.out.Decode(&r); err != nil {
		z.t.Fatalf("libzmq at %s: %v", op, err)
	}
	if r.Error != "" {
		z.t.Fatalf("libzmq at %s: %s", op, r.Error)
	}
	return r
}

func blob[B string | []byte](b B) args { return args{"hex": hex.EncodeToString([]byte(b))} }

// open makes a socket that is a CURVE client and connects it; its name is its type.
func (z *libzmq) open(name, kind, endpoint string, server curve.Key, secret curve.Secret) {
	z.t.Helper()
	public := secret.Public()
	z.call("socket", args{"name": name, "type": kind, "options": args{
		"CURVE_SERVERKEY": blob(server[:]), "CURVE_PUBLICKEY": blob(public[:]), "CURVE_SECRETKEY": blob(secret[:]),
	}})
	z.call("monitor", args{"name": name})
	z.call("connect", args{"name": name, "endpoint": endpoint})
}

func (z *libzmq) close(name string) { z.call("close", args{"name": name, "linger": 0}) }

func (z *libzmq) send(name string, parts ...string) {
	z.t.Helper()
	var all []args
	for _, p := range parts {
		all = append(all, blob(p))
	}
	if !z.call("send", args{"name": name, "parts": all, "timeout": patience.Milliseconds()}).OK {
		z.t.Fatalf("libzmq: %s has no room", name)
	}
}

func (z *libzmq) recv(name string) (parts []string) {
	z.t.Helper()
	r := z.call("recv", args{"name": name, "timeout": patience.Milliseconds()})
	if !r.OK {
		z.t.Fatalf("libzmq: nothing comes for %s", name)
	}
	for _, p := range r.Parts {
		b, err := hex.DecodeString(p.Hex)
		if err != nil {
			z.t.Fatal(err)
		}
		parts = append(parts, string(b))
	}
	return parts
}

// The monitor events that tests wait for.
const (
	connectRetried      = 0x0004
	handshakeNoDetail   = 0x0800
	handshakeSucceeded  = 0x1000
	handshakeFailedAuth = 0x4000
)

// event waits for one of these events and returns it with its value. None of the others may come before.
func (z *libzmq) event(name string, want uint16, not ...uint16) uint32 {
	z.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if time.Now().After(deadline) {
			z.t.Fatalf("libzmq: other events than %#x of %s for %v", want, name, patience)
		}
		r := z.call("event", args{"name": name, "timeout": patience.Milliseconds()})
		if !r.OK {
			z.t.Fatalf("libzmq: no event %#x of %s", want, name)
		}
		if r.Event == want {
			return r.Value
		}
		for _, n := range not {
			if r.Event == n {
				z.t.Fatalf("libzmq: event %#x(%d) of %s", n, r.Value, name)
			}
		}
	}
}
