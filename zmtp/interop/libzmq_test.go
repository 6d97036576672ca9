//go:build unix

package interop

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// libzmq is the side of a peer process.
type libzmq struct{ *peer }

func (libzmq) String() string { return "libzmq" }

// libzmqEnd is a socket of a peer.
type libzmqEnd struct {
	t    *testing.T
	peer *peer
	kind string
	name string
	shut func() // once
}

func (l libzmq) open(t *testing.T, kind string, o options) end {
	t.Helper()
	return l.socket(t, kind, o)
}

// socket is open with the concrete type.
func (p *peer) socket(t *testing.T, kind string, o options) *libzmqEnd {
	t.Helper()
	p.sockets++
	s := &libzmqEnd{t: t, peer: p, kind: kind, name: strconv.Itoa(p.sockets)}
	set := testkit.Args{}
	number := func(name string, v int) {
		if v != 0 {
			set[name] = v
		}
	}
	flag := func(name string, on bool) {
		if on {
			set[name] = 1
		}
	}
	number("SNDHWM", o.sendHWM)
	number("RCVHWM", o.recvHWM)
	number("SNDBUF", o.sendBuf)
	number("RCVBUF", o.recvBuf)
	flag("IPV6", o.ipv6)
	flag("XPUB_VERBOSE", o.verbose)
	flag("XPUB_VERBOSER", o.verboser)
	flag("XPUB_NODROP", o.nodrop)
	flag("IMMEDIATE", o.immediate)
	flag("ROUTER_MANDATORY", o.mandatory)
	flag("ROUTER_HANDOVER", o.handover)
	flag("PROBE_ROUTER", o.probe)
	flag("REQ_RELAXED", o.relaxed)
	flag("REQ_CORRELATE", o.correlate)
	flag("CONFLATE", o.conflate)
	flag("INVERT_MATCHING", o.invert)
	flag("ONLY_FIRST_SUBSCRIBE", o.onlyFirst)
	number("RECONNECT_STOP", int(o.stop))
	number("HEARTBEAT_IVL", int(o.heartbeat.Milliseconds()))
	number("HEARTBEAT_TIMEOUT", int(o.heartbeatTimeout.Milliseconds()))
	number("HEARTBEAT_TTL", int(o.heartbeatTTL.Milliseconds()))
	if o.welcome != "" {
		set["XPUB_WELCOME_MSG"] = testkit.Blob(o.welcome)
	}
	if o.routingID != "" {
		set["IDENTITY"] = testkit.Blob(o.routingID)
	}
	flag("XPUB_MANUAL_LAST_VALUE", o.manualLast)
	flag("PLAIN_SERVER", o.plainServer)
	if o.user != "" {
		set["PLAIN_USERNAME"] = testkit.Blob(o.user)
		set["PLAIN_PASSWORD"] = testkit.Blob(o.password)
	}
	if o.property != "" {
		set["METADATA"] = testkit.Blob(o.property)
	}
	p.Call(t, "socket", testkit.Args{"name": s.name, "type": kind, "options": set})
	s.shut = sync.OnceFunc(func() { s.call("close", testkit.Args{"linger": 0}) })
	t.Cleanup(func() {
		if !t.Failed() && !p.Killed() {
			s.shut()
		}
	})
	return s
}

func (s *libzmqEnd) start(op string, a testkit.Args) func() testkit.Reply {
	s.t.Helper()
	a["name"] = s.name
	return s.peer.Start(s.t, op, a)
}

func (s *libzmqEnd) call(op string, a testkit.Args) testkit.Reply {
	s.t.Helper()
	return s.start(op, a)()
}

func (s *libzmqEnd) listen(endpoint string) string {
	s.t.Helper()
	return s.call("bind", testkit.Args{"endpoint": endpoint}).Endpoint
}

func (s *libzmqEnd) connect(endpoint string) {
	s.t.Helper()
	s.call("connect", testkit.Args{"endpoint": endpoint})
}

func (s *libzmqEnd) subscribe(topic string) {
	s.t.Helper()
	s.change(topic, "SUBSCRIBE", "\x01")
}

func (s *libzmqEnd) unsubscribe(topic string) {
	s.t.Helper()
	s.change(topic, "UNSUBSCRIBE", "\x00")
}

// change subscribes in the way of the socket's type: an XSUB sends the message that a SUB's option
// stands for.
func (s *libzmqEnd) change(topic, option, message string) {
	s.t.Helper()
	if s.kind == "XSUB" {
		s.send(message + topic)
		return
	}
	s.call("set", testkit.Args{"option": option, "value": testkit.Blob(topic)})
}

func (s *libzmqEnd) send(parts ...string) {
	s.t.Helper()
	if !s.call("send", testkit.Args{"parts": testkit.Blobs(parts),
		"timeout": patience.Milliseconds()}).OK {
		s.t.Fatalf("libzmq %s: no room for a message within %v", s.kind, patience)
	}
}

func (s *libzmqEnd) trySend(parts ...string) bool {
	s.t.Helper()
	return s.call("send", testkit.Args{"parts": testkit.Blobs(parts), "timeout": 0}).OK
}

func (s *libzmqEnd) recv() []string {
	s.t.Helper()
	parts, ok := s.tryRecv(patience)
	if !ok {
		s.t.Fatalf("libzmq %s: no message within %v", s.kind, patience)
	}
	return parts
}

func (s *libzmqEnd) tryRecv(d time.Duration) ([]string, bool) {
	s.t.Helper()
	r := s.call("recv", testkit.Args{"timeout": d.Milliseconds()})
	return testkit.Texts(r.Parts), r.OK
}

func (s *libzmqEnd) startBurst(topic, source string, n, size int,
	timeout time.Duration) func() testkit.Reply {
	s.t.Helper()
	return s.start("burst", testkit.Args{
		"prefix": testkit.Blobs([]string{topic, source}), "first": 0, "n": n, "size": size,
		"timeout": timeout.Milliseconds(),
	})
}

func (s *libzmqEnd) burst(topic, source string, n, size int) func() {
	s.t.Helper()
	wait := s.startBurst(topic, source, n, size, patience)
	return func() {
		s.t.Helper()
		if sent := wait().N; sent != n {
			s.t.Fatalf("libzmq %s: no room for message %d within %v", s.kind, sent, patience)
		}
	}
}

func (s *libzmqEnd) pump(topic, source string, n, size int) int {
	s.t.Helper()
	return s.startBurst(topic, source, n, size, 0)().N
}

func (s *libzmqEnd) tally(n int, quiet time.Duration) func() tally {
	s.t.Helper()
	wait := s.start("tally", testkit.Args{"n": n, "timeout": quiet.Milliseconds()})
	return func() tally {
		s.t.Helper()
		return wait().Sources
	}
}

func (s *libzmqEnd) close() {
	s.t.Helper()
	s.shut()
}

// closeLinger closes with time for what is queued.
func (s *libzmqEnd) closeLinger(d time.Duration) {
	s.t.Helper()
	s.shut = func() {}
	s.call("close", testkit.Args{"linger": d.Milliseconds()})
}
