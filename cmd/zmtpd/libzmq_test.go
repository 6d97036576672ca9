package main

import (
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/testkit"
)

// libzmq is a process with libzmq sockets. Each socket has a name.
type libzmq struct {
	*testkit.Libzmq
	t *testing.T
}

func startLibzmq(t *testing.T) *libzmq {
	t.Helper()
	return &libzmq{testkit.StartLibzmq(t), t}
}

func (z *libzmq) call(op string, a testkit.Args) testkit.Reply {
	z.t.Helper()
	return z.Call(z.t, op, a)
}

// open makes a socket that is a CURVE client and connects it.
func (z *libzmq) open(name, kind, endpoint string, server curve.Key, secret curve.Secret) {
	z.t.Helper()
	public := secret.Public()
	z.call("socket", testkit.Args{"name": name, "type": kind, "options": testkit.Args{
		"CURVE_SERVERKEY": testkit.Blob(server[:]), "CURVE_PUBLICKEY": testkit.Blob(public[:]),
		"CURVE_SECRETKEY": testkit.Blob(secret[:]),
	}})
	z.call("monitor", testkit.Args{"name": name})
	z.call("connect", testkit.Args{"name": name, "endpoint": endpoint})
}

func (z *libzmq) close(name string) { z.call("close", testkit.Args{"name": name, "linger": 0}) }

func (z *libzmq) send(name string, parts ...string) {
	z.t.Helper()
	if !z.call("send", testkit.Args{"name": name, "parts": testkit.Blobs(parts),
		"timeout": testkit.Patience.Milliseconds()}).OK {
		z.t.Fatalf("libzmq: socket %s has no room", name)
	}
}

func (z *libzmq) recv(name string) []string {
	z.t.Helper()
	r := z.call("recv", testkit.Args{"name": name, "timeout": testkit.Patience.Milliseconds()})
	if !r.OK {
		z.t.Fatalf("libzmq: socket %s receives nothing", name)
	}
	return testkit.Texts(r.Parts)
}

// The monitor events that tests wait for.
const (
	connectRetried      = 0x0004
	handshakeNoDetail   = 0x0800
	handshakeSucceeded  = 0x1000
	handshakeFailedAuth = 0x4000
)

// event waits for one of the wanted events and returns it with its value. Another event fails the
// test.
func (z *libzmq) event(name string, want uint16, not ...uint16) uint32 {
	z.t.Helper()
	for deadline := time.Now().Add(testkit.Patience); ; {
		if time.Now().After(deadline) {
			z.t.Fatalf("libzmq: other events than %#x of %s for %v", want, name, testkit.Patience)
		}
		r := z.call("event", testkit.Args{"name": name, "timeout": testkit.Patience.Milliseconds()})
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
