//go:build unix

package interop

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// route says to whom a message goes or from whom it came, for the types that need it.
type route struct {
	id    uint64
	group string
}

// draftEnd is a socket of one of libzmq's newer types, whose messages have one part.
type draftEnd interface {
	listen(endpoint string) string
	connect(endpoint string)
	join(group string)
	send(to route, body string)
	recv(d time.Duration) (body string, from route, ok bool)
}

// npmEnd is a socket of npm's zeromq: libzmq 4.3.5 with drafts.
type npmEnd struct {
	t    *testing.T
	peer *testkit.Libzmq
	kind string
	name string
}

func openNpm(t *testing.T, p *testkit.Libzmq, kind string) draftEnd {
	t.Helper()
	s := &npmEnd{t, p, kind, t.Name() + kind}
	s.call("socket", testkit.Args{"type": kind[:1] + strings.ToLower(kind[1:])})
	t.Cleanup(func() {
		if !t.Failed() {
			s.call("close", testkit.Args{})
		}
	})
	return s
}

func (s *npmEnd) call(op string, a testkit.Args) testkit.Reply {
	s.t.Helper()
	a["name"] = s.name
	return s.peer.Call(s.t, op, a)
}

func (s *npmEnd) listen(endpoint string) string {
	return s.call("bind", testkit.Args{"endpoint": endpoint}).Endpoint
}

func (s *npmEnd) connect(endpoint string) {
	s.call("connect", testkit.Args{"endpoint": endpoint})
}

func (s *npmEnd) join(group string) {
	s.call("subscribe", testkit.Args{"topic": testkit.Blob(group)})
}

func (s *npmEnd) send(to route, body string) {
	s.t.Helper()
	parts := []string{body}
	switch s.kind {
	case "SERVER":
		parts = []string{strconv.FormatUint(to.id, 10), body}
	case "RADIO":
		parts = []string{to.group, body}
	}
	if !s.call("send", testkit.Args{"parts": testkit.Blobs(parts),
		"timeout": patience.Milliseconds()}).OK {
		s.t.Fatalf("npm %s: no room for a message within %v", s.kind, patience)
	}
}

func (s *npmEnd) recv(d time.Duration) (string, route, bool) {
	s.t.Helper()
	r := s.call("recv", testkit.Args{"timeout": d.Milliseconds()})
	if !r.OK {
		return "", route{}, false
	}
	parts, from := testkit.Texts(r.Parts), route{}
	switch s.kind {
	case "SERVER":
		id, err := strconv.ParseUint(parts[0], 10, 32)
		if err != nil {
			s.t.Fatal(err)
		}
		from.id, parts = id, parts[1:]
	case "DISH":
		from.group, parts = parts[0], parts[1:]
	}
	return strings.Join(parts, "|"), from, true
}

// ourDraftEnd is a socket of package zmtp.
type ourDraftEnd struct {
	t *testing.T
	*zmtp.Socket
	dial  func(string) error // Connect, or what the type has in its place
	out   func(context.Context, route, string) error
	in    receiver
	joins func(string) error
}

func openDraft(t *testing.T, kind string) draftEnd {
	t.Helper()
	cfg := zmtp.Config{ReconnectInterval: 20 * time.Millisecond}
	s := &ourDraftEnd{t: t}
	plain := func(send func(context.Context, zmtp.Message) error) {
		s.out = func(ctx context.Context, _ route, body string) error {
			return send(ctx, zmtp.NewMessageString(body))
		}
	}
	addressed := func(send func(context.Context, uint64, zmtp.Message) error) {
		s.out = func(ctx context.Context, to route, body string) error {
			return send(ctx, to.id, zmtp.NewMessageString(body))
		}
	}
	switch kind {
	case "CLIENT":
		k := zmtp.NewClient(cfg)
		s.Socket, s.in = k.Socket, k
		plain(k.Send)
	case "SERVER":
		k := zmtp.NewServer(cfg)
		s.Socket, s.in = k.Socket, k
		addressed(k.Send)
	case "PEER":
		k := zmtp.NewPeerSocket(cfg)
		s.Socket, s.in = k.Socket, k
		s.dial = func(endpoint string) error { _, err := k.ConnectPeer(endpoint); return err }
		addressed(k.Send)
	case "SCATTER":
		k := zmtp.NewScatter(cfg)
		s.Socket = k.Socket
		plain(k.Send)
	case "GATHER":
		k := zmtp.NewGather(cfg)
		s.Socket, s.in = k.Socket, k
	case "CHANNEL":
		k := zmtp.NewChannel(cfg)
		s.Socket, s.in = k.Socket, k
		plain(k.Send)
	case "RADIO":
		k := zmtp.NewRadio(cfg)
		s.Socket = k.Socket
		s.out = func(ctx context.Context, to route, body string) error {
			return k.Send(ctx, zmtp.NewMessageString(to.group, body))
		}
	case "DISH":
		k := zmtp.NewDish(cfg)
		s.Socket, s.in, s.joins = k.Socket, k, k.Join
	default:
		t.Fatalf("no newer type %s", kind)
	}
	if s.dial == nil {
		s.dial = s.Connect
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *ourDraftEnd) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("our %s: %v", s.Type(), err)
	}
}

func (s *ourDraftEnd) listen(endpoint string) string {
	bound, err := s.Listen(endpoint)
	s.check(err)
	return bound
}

func (s *ourDraftEnd) connect(endpoint string) { s.check(s.dial(endpoint)) }
func (s *ourDraftEnd) join(group string)       { s.check(s.joins(group)) }

func (s *ourDraftEnd) send(to route, body string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.check(s.out(ctx, to, body))
}

func (s *ourDraftEnd) recv(d time.Duration) (string, route, bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	m, err := s.in.Recv(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.check(err)
		}
		return "", route{}, false
	}
	if s.Type() == zmtp.DISH {
		return string(m.Part(1)), route{group: string(m.Part(0))}, m.NumParts() == 2
	}
	if m.NumParts() != 1 {
		s.t.Fatalf("our %s: %d parts", s.Type(), m.NumParts())
	}
	return string(m.Part(0)), route{id: m.Peer().ID()}, true
}

// eachDraft runs f with a sender and a receiver of the given types: ours to npm's and npm's to
// ours, and each of them once as the one that listens.
func eachDraft(t *testing.T, from, to string, f func(t *testing.T, snd, rcv draftEnd)) {
	p := testkit.StartZeroMQJS(t)
	for _, ourSender := range []bool{true, false} {
		for _, senderListens := range []bool{true, false} {
			name := from + "-" + to + "," + strconv.FormatBool(ourSender) + "," +
				strconv.FormatBool(senderListens)
			t.Run(name, func(t *testing.T) {
				var snd, rcv draftEnd
				if ourSender {
					snd, rcv = openDraft(t, from), openNpm(t, p, to)
				} else {
					snd, rcv = openNpm(t, p, from), openDraft(t, to)
				}
				if senderListens {
					rcv.connect(snd.listen("tcp://127.0.0.1:*"))
				} else {
					snd.connect(rcv.listen("tcp://127.0.0.1:*"))
				}
				f(t, snd, rcv)
			})
		}
	}
}

// bodies have every form of a frame's size, and no form that is too large for the pipe.
func bodies() []string {
	var all []string
	for _, n := range []int{0, 1, 255, 256, 70_000} {
		all = append(all, testkit.Pattern(n))
	}
	return all
}

// deliver sends each body and fails unless it arrives; it returns from whom the last one came.
func deliver(t *testing.T, snd, rcv draftEnd, to route) (from route) {
	t.Helper()
	for _, body := range bodies() {
		snd.send(to, body)
		got, f, ok := rcv.recv(patience)
		if !ok || got != body {
			t.Fatalf("%d bytes arrived of %d, %v", len(got), len(body), ok)
		}
		from = f
	}
	return from
}

// A SERVER answers a CLIENT by its routing id (RFC 41).
func TestNpmClientServer(t *testing.T) {
	eachDraft(t, "CLIENT", "SERVER", func(t *testing.T, client, server draftEnd) {
		from := deliver(t, client, server, route{})
		if from.id == 0 {
			t.Fatal("a request without a routing id")
		}
		deliver(t, server, client, from)
	})
}

func TestNpmScatterGather(t *testing.T) {
	eachDraft(t, "SCATTER", "GATHER", func(t *testing.T, scatter, gather draftEnd) {
		deliver(t, scatter, gather, route{})
	})
}

func TestNpmChannel(t *testing.T) {
	eachDraft(t, "CHANNEL", "CHANNEL", func(t *testing.T, a, b draftEnd) {
		deliver(t, a, b, route{})
		deliver(t, b, a, route{})
	})
}

// A DISH gets what goes to its groups, also to one with the longest name, and nothing else (RFC
// 48).
func TestNpmRadioDish(t *testing.T) {
	eachDraft(t, "RADIO", "DISH", func(t *testing.T, radio, dish draftEnd) {
		long := strings.Repeat("g", 255)
		dish.join("g")
		dish.join(long)
		for _, group := range []string{"g", long} {
			testkit.Eventually(t, "a message of the group", func() bool {
				radio.send(route{group: group}, "probe")
				_, from, ok := dish.recv(moment)
				return ok && from.group == group
			})
		}
		radio.send(route{group: "g"}, "settled")
		for body := ""; body != "settled"; {
			var ok bool
			if body, _, ok = dish.recv(patience); !ok {
				t.Fatal("no message")
			}
		}
		for _, body := range bodies() {
			radio.send(route{group: "h"}, "not for the DISH")
			radio.send(route{group: "g"}, body)
			if got, from, ok := dish.recv(patience); !ok || got != body || from.group != "g" {
				t.Fatalf("%d bytes of group %.9q arrived, want %d", len(got), from.group, len(body))
			}
		}
	})
}

// A PEER sends to another by its routing id (RFC 51). The package has no way to address a message
// of a PEER, so that npm's only receives. TestPeerEchoes has both directions.
func TestNpmPeer(t *testing.T) {
	p := testkit.StartZeroMQJS(t)
	for _, listens := range []bool{true, false} {
		t.Run(strconv.FormatBool(listens), func(t *testing.T) {
			s, theirs := openDraft(t, "PEER").(*ourDraftEnd), openNpm(t, p, "PEER")
			if listens {
				theirs.connect(s.listen("tcp://127.0.0.1:*"))
			} else {
				s.connect(theirs.listen("tcp://127.0.0.1:*"))
			}
			testkit.Eventually(t, "the handshake", func() bool { return len(s.Peers()) == 1 })
			deliver(t, s, theirs, route{id: s.Peers()[0].ID})
		})
	}
}

// A PEER of libzmq answers one of ours that has connected to it, and the other way round (RFC 51).
func TestPeerEchoes(t *testing.T) {
	t.Run("ours connects", func(t *testing.T) {
		theirs := testkit.StartEcho(t, "PEER", "bind", "tcp://127.0.0.1:*")
		s := zmtp.NewPeerSocket(zmtp.Config{})
		defer s.Close()
		id, err := s.ConnectPeer(theirs.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range bodies() {
			if err := s.Send(testkit.Context(t), id, zmtp.NewMessageString(body)); err != nil {
				t.Fatal(err)
			}
			m, err := s.Recv(testkit.Context(t))
			if err != nil || string(m.Part(0)) != body || m.Peer().ID() != id {
				t.Fatalf("%d bytes came back from %d, %v", m.Size(), m.Peer().ID(), err)
			}
		}
	})
	t.Run("ours listens", func(t *testing.T) {
		s := zmtp.NewPeerSocket(zmtp.Config{})
		bound, err := s.Listen("tcp://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		var echoing sync.WaitGroup
		echoing.Go(func() {
			for m := range s.All(context.Background()) {
				if err := s.Send(testkit.Context(t), m.Peer().ID(), m); err != nil {
					t.Error(err)
				}
			}
		})
		defer echoing.Wait()
		defer s.Close()
		testkit.StartEcho(t, "PEER", "connect", bound).Wait()
	})
}
