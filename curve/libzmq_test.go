//go:build unix

package curve

import (
	"strconv"
	"testing"

	"zmtpd/zmtp/testkit"
)

// peer is a process with libzmq sockets.
type peer struct {
	*testkit.Libzmq
	t       *testing.T
	sockets int
}

// startPeer starts a peer that ends with the test.
func startPeer(t *testing.T) *peer {
	t.Helper()
	return &peer{Libzmq: testkit.StartLibzmq(t), t: t}
}

// call makes the peer do something, and returns its answer.
func (p *peer) call(op string, a testkit.Args) testkit.Reply {
	p.t.Helper()
	return p.Call(p.t, op, a)
}

// theirEnd is a socket of the peer.
type theirEnd struct {
	*peer
	name string
}

// keys are the keys of one side of a test.
type keys struct {
	server Secret // of a server
	of     Key    // of a client: the key of its server
	own    Secret // of a client
}

func (p *peer) open(t *testing.T, kind string, role role, k keys, more testkit.Args) *theirEnd {
	t.Helper()
	p.t = t
	p.sockets++
	s := &theirEnd{p, strconv.Itoa(p.sockets)}
	set := testkit.Args{}
	for name, value := range more {
		set[name] = value
	}
	if role == asServer {
		set["CURVE_SERVER"], set["CURVE_SECRETKEY"] = 1, testkit.Blob(k.server[:])
	} else {
		public := k.own.Public()
		set["CURVE_SERVERKEY"] = testkit.Blob(k.of[:])
		set["CURVE_PUBLICKEY"] = testkit.Blob(public[:])
		set["CURVE_SECRETKEY"] = testkit.Blob(k.own[:])
	}
	p.call("socket", testkit.Args{"name": s.name, "type": kind, "options": set})
	t.Cleanup(s.close)
	return s
}

func (s *theirEnd) close() {
	if s.name != "" {
		s.call("close", testkit.Args{"name": s.name, "linger": 0})
		s.name = ""
	}
}

func (s *theirEnd) listen() string {
	s.t.Helper()
	return s.call("bind", testkit.Args{"name": s.name, "endpoint": "tcp://127.0.0.1:*"}).Endpoint
}

func (s *theirEnd) connect(endpoint string) {
	s.t.Helper()
	s.call("connect", testkit.Args{"name": s.name, "endpoint": endpoint})
}

func (s *theirEnd) subscribe(topic string) {
	s.t.Helper()
	s.call("set", testkit.Args{"name": s.name, "option": "SUBSCRIBE", "value": testkit.Blob(topic)})
}

func (s *theirEnd) trySend(parts ...[]byte) bool {
	s.t.Helper()
	return s.call("send", testkit.Args{"name": s.name, "parts": testkit.Blobs(parts),
		"timeout": patience.Milliseconds()}).OK
}

func (s *theirEnd) tryRecv(wait bool) ([][]byte, bool) {
	s.t.Helper()
	timeout := moment
	if wait {
		timeout = patience
	}
	r := s.call("recv", testkit.Args{"name": s.name, "timeout": timeout.Milliseconds()})
	parts := make([][]byte, len(r.Parts))
	for i, b := range r.Parts {
		parts[i] = []byte(b)
	}
	return parts, r.OK
}

// event waits for one of these events of the socket, which must be monitored. It returns type and
// value.
func (s *theirEnd) event(types ...uint16) (uint16, uint32) {
	s.t.Helper()
	for {
		r := s.call("event", testkit.Args{"name": s.name, "timeout": patience.Milliseconds()})
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
