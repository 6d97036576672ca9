package zmtp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// message makes a message of text parts.
func message(parts ...string) Message { return NewMessageString(parts...) }

// mustSend sends without waiting.
func mustSend(t testing.TB, s interface{ TrySend(Message) error }, parts ...string) {
	t.Helper()
	if err := s.TrySend(message(parts...)); err != nil {
		t.Fatalf("sending %q: %v", parts, err)
	}
}

// mustRecv receives a message that must arrive.
func mustRecv(t testing.TB, s interface {
	Recv(context.Context) (Message, error)
}, want string) Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := s.Recv(ctx)
	if err != nil || text(m) != want {
		t.Fatalf("received %q, %v, want %q", text(m), err, want)
	}
	return m
}

// nothing checks that nothing can be received.
func nothing(t testing.TB, s interface{ TryRecv() (Message, error) }) {
	t.Helper()
	synctest.Wait()
	if m, err := s.TryRecv(); err != ErrWouldBlock {
		t.Fatalf("received %q, %v, want nothing", text(m), err)
	}
}

// rawPeer connects a raw peer of type typ with a routing id to a socket of type other.
func rawPeer(t testing.TB, n *zmtptest.Network, typ, other SocketType, id string) *zmtptest.Raw {
	t.Helper()
	r := dialRaw(t, n, addr)
	r.Send(append(wire.AppendGreeting(nil, "NULL", false), wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendMetadata(nil, localMetadata(typ, []byte(id), nil)))...))
	r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(other)...))
	return r
}

// sendParts sends a message from a raw peer.
func sendParts(r *zmtptest.Raw, parts ...string) { r.Send(message(parts...).Wire()) }

// expectParts receives a message at a raw peer.
func expectParts(r *zmtptest.Raw, parts ...string) { r.Expect(message(parts...).Wire()) }

// A request and its reply, and all that is not allowed between them (libzmq, test_spec_req and
// test_spec_rep: EFSM).
func TestReqRep(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		rep := NewRep(Config{})
		defer closeNow(t, rep)
		bind(t, n, rep.Socket, addr)
		req := NewReq(inMemory(n, Config{}), ReqOptions{})
		defer closeNow(t, req)
		if err := req.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := req.TryRecv(); err != ErrState {
				t.Errorf("Recv before Send: %v", err)
			}
			if err := rep.TrySend(message("x")); err != ErrState {
				t.Errorf("Send before Recv: %v", err)
			}
			question, answer := fmt.Sprint("question", i), fmt.Sprint("answer", i)
			mustSend(t, req, question, "")
			if err := req.Send(t.Context(), message("again")); err != ErrState {
				t.Errorf("a second Send: %v", err)
			}
			nothing(t, req)
			m := mustRecv(t, rep, question+",")
			if p := m.Peer(); p == nil || p.SocketType() != REQ {
				t.Errorf("the request came from %v", p)
			}
			if _, err := rep.Recv(t.Context()); err != ErrState {
				t.Errorf("a second Recv: %v", err)
			}
			mustSend(t, rep, answer, "more")
			mustRecv(t, req, answer+",more")
		}
		if err := req.TrySend(Message{}); !errors.Is(err, ErrMessage) {
			t.Errorf("a message without parts: %v", err)
		}
	})
}

// A cancelled Recv of a REQ loses nothing: the next one gets the reply.
func TestReqRecvCancelled(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		req := NewReq(Config{}, ReqOptions{})
		bind(t, n, req.Socket, addr)
		r := rawPeer(t, n, REP, REQ, "")
		if err := req.Send(t.Context(), message("q")); err != nil {
			t.Fatal(err)
		}
		expectParts(r, "", "q")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := req.Recv(ctx); err != context.DeadlineExceeded {
			t.Errorf("Recv: %v", err)
		}
		sendParts(r, "", "a")
		synctest.Wait()
		mustRecv(t, req, "a")
		mustSend(t, req, "q")
		done := make(chan error)
		go func() {
			_, err := req.Recv(t.Context())
			done <- err
		}()
		synctest.Wait()
		closeNow(t, req)
		if err := <-done; err != ErrClosed {
			t.Errorf("Recv at the end: %v", err)
		}
	})
}

// "A REQ socket SHALL prefix the outgoing message with an empty delimiter frame" (RFC 28); it waits
// for a peer, and requests go round robin (libzmq, test_spec_req).
func TestReqRoundRobin(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		req := NewReq(Config{}, ReqOptions{})
		defer closeNow(t, req)
		bind(t, n, req.Socket, addr)
		if err := req.TrySend(message("nobody")); err != ErrWouldBlock {
			t.Errorf("without a peer: %v", err)
		}
		sent := make(chan error)
		go func() { sent <- req.Send(t.Context(), message("first")) }()
		synctest.Wait()
		first := rawPeer(t, n, REP, REQ, "")
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		expectParts(first, "", "first")
		sendParts(first, "", "1")
		mustRecv(t, req, "1")
		second := rawPeer(t, n, ROUTER, REQ, "")
		synctest.Wait()
		peers := []*zmtptest.Raw{first, second}
		for i := range 6 {
			mustSend(t, req, fmt.Sprint(i))
			r := peers[(i+1)%2] // the first one has had its turn
			expectParts(r, "", fmt.Sprint(i))
			sendParts(r, "", "ok")
			mustRecv(t, req, "ok")
		}
	})
}

// Replies without a delimiter, from another peer, or to no request are dropped and counted, until
// the right one arrives (libzmq, test_invalid_rep).
func TestReqInvalidReplies(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		req := NewReq(Config{}, ReqOptions{})
		defer closeNow(t, req)
		bind(t, n, req.Socket, addr)
		r := rawPeer(t, n, ROUTER, REQ, "")
		synctest.Wait()
		other := rawPeer(t, n, ROUTER, REQ, "")
		sendParts(other, "", "too early")
		alive(other)
		mustSend(t, req, "q")
		expectParts(r, "", "q")
		sendParts(other, "", "from another")
		alive(other)
		for _, bad := range [][]string{{"no delimiter"}, {""}, {"a", ""}, {"a", "", "b"}} {
			sendParts(r, bad...)
		}
		alive(r)
		nothing(t, req)
		sendParts(r, "", "good", "")
		sendParts(r, "", "one too many")
		mustRecv(t, req, "good,")
		alive(r)
		want := Drops{DropUnexpected: 3, DropMalformed: 4}
		if got := req.Stats().Dropped; got != want {
			t.Errorf("dropped %v, want %v", got, want)
		}
	})
}

// With Relaxed a request may follow a request; with Correlate replies to earlier ones are dropped
// (libzmq, test_req_relaxed and test_req_correlate).
func TestReqRelaxed(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		req := NewReq(Config{}, ReqOptions{Relaxed: true, Correlate: true})
		defer closeNow(t, req)
		bind(t, n, req.Socket, addr)
		r := rawPeer(t, n, ROUTER, REQ, "")
		synctest.Wait()
		ids := make([]string, 3)
		for i := range ids {
			mustSend(t, req, fmt.Sprint(i))
			flags, id := r.ReadFrame()
			if flags != byte(wire.More) || len(id) != 4 {
				t.Fatalf("first part %q with flags %d, want 4 bytes and more", id, flags)
			}
			ids[i] = string(id)
			expectParts(r, "", fmt.Sprint(i))
		}
		if a, b := binary.BigEndian.Uint32([]byte(ids[0])),
			binary.BigEndian.Uint32([]byte(ids[2])); b != a+2 {
			t.Errorf("requests have the numbers %d to %d", a, b)
		}
		sendParts(r, ids[0], "", "late")
		sendParts(r, ids[1], "", "late")
		sendParts(r, "", "without a number")
		sendParts(r, ids[2], "no delimiter")
		alive(r)
		nothing(t, req)
		sendParts(r, ids[2], "", "in time")
		mustRecv(t, req, "in time")
		if d := req.Stats().Dropped; d[DropUnexpected] != 2 || d[DropMalformed] != 2 {
			t.Errorf("dropped %v", d)
		}
		// A reply to an earlier request is no reply to the next one.
		mustSend(t, req, "3")
		_, id := r.ReadFrame()
		expectParts(r, "", "3")
		sendParts(r, string(id), "", "unread")
		alive(r)
		mustSend(t, req, "4")
		nothing(t, req)
	})
}

// A request whose peer was lost before the request was sent goes to another peer, whose reply
// counts.
func TestReqPeerLost(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 100 // the request does not fit
		req := NewReq(Config{}, ReqOptions{})
		defer closeNow(t, req)
		bind(t, n, req.Socket, addr)
		first := rawPeer(t, n, REP, REQ, "")
		synctest.Wait()
		long := string(make([]byte, 1000))
		mustSend(t, req, long)
		synctest.Wait()
		first.Conn.Close()
		synctest.Wait()
		second := rawPeer(t, n, REP, REQ, "")
		expectParts(second, "", long)
		sendParts(second, "", "reply")
		mustRecv(t, req, "reply")
	})
}

// "A REP socket SHALL store and restore the whole envelope": all parts up to the empty one come
// back with the reply (RFC 28; libzmq, test_spec_rep). A request without it is dropped.
func TestRepEnvelope(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		rep := NewRep(Config{})
		defer closeNow(t, rep)
		bind(t, n, rep.Socket, addr)
		r := rawPeer(t, n, DEALER, REP, "")
		for _, bad := range [][]string{{"no delimiter"}, {""}, {"a", "b"}, {"a", ""}} {
			sendParts(r, bad...)
		}
		alive(r)
		nothing(t, rep)
		if n := rep.Stats().Dropped[DropMalformed]; n != 4 {
			t.Errorf("%d requests dropped, want 4", n)
		}
		for _, envelope := range [][]string{{}, {"a"}, {"a", "b", string(make([]byte, 300))}} {
			sendParts(r, append(append([]string{}, envelope...), "", "body", "", "more")...)
			mustRecv(t, rep, "body,,more")
			mustSend(t, rep, "reply", "")
			expectParts(r, append(append([]string{}, envelope...), "", "reply", "")...)
		}
	})
}

// A reply to a peer that has gone, or that does not read, is dropped and counted, and the REP goes
// on with the next request (libzmq, rep.cpp).
func TestRepPeerGone(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 64
		rep := NewRep(Config{SendHWM: 1})
		defer closeNow(t, rep)
		bind(t, n, rep.Socket, addr)
		gone, deaf := rawPeer(t, n, DEALER, REP, ""), rawPeer(t, n, DEALER, REP, "")
		sendParts(gone, "", "from the one that goes")
		mustRecv(t, rep, "from the one that goes")
		gone.Conn.Close()
		synctest.Wait()
		mustSend(t, rep, "too late")
		for range 3 { // one is under way, none waits
			sendParts(deaf, "", "q")
			mustRecv(t, rep, "q")
			mustSend(t, rep, string(make([]byte, 200)))
			synctest.Wait()
		}
		if d := rep.Stats().Dropped; d[DropNoPeer] != 1 || d[DropFull] != 2 {
			t.Errorf("dropped %v", d)
		}
	})
}

// A REP takes requests from its peers in turn (RFC 28; libzmq, test_spec_rep).
func TestRepFairQueue(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		rep := NewRep(Config{})
		defer closeNow(t, rep)
		bind(t, n, rep.Socket, addr)
		for i := range 3 {
			r := rawPeer(t, n, DEALER, REP, "")
			for range 4 {
				sendParts(r, "", fmt.Sprint(i))
			}
			alive(r)
		}
		for range 4 {
			turn := make(map[string]bool)
			for range 3 {
				m, err := rep.TryRecv()
				if err != nil {
					t.Fatal(err)
				}
				turn[text(m)] = true
				mustSend(t, rep, "ok")
				synctest.Wait()
			}
			if len(turn) != 3 {
				t.Errorf("three requests came from %v", turn)
			}
		}
	})
}

// In any order of calls REQ and REP behave as the two-state machines of RFC 28, and each reply
// belongs to the last request.
func TestReqRepModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) { reqRepModel(t, rt, n) })
	})
}

func reqRepModel(t *testing.T, rt *rapid.T, n *zmtptest.Network) {
	rep := NewRep(Config{})
	defer closeNow(t, rep)
	bind(t, n, rep.Socket, addr)
	req := NewReq(inMemory(n, Config{}), ReqOptions{})
	defer closeNow(t, req)
	if err := req.Connect("tcp://" + addr); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	// The request is in one of four places: nowhere, on its way, at the application of the REP, or
	// on its way back as a reply.
	place, number := 0, 0
	check := func(what string, err error, legal, possible bool) {
		t.Helper()
		want := error(nil)
		switch {
		case !legal:
			want = ErrState
		case !possible:
			want = ErrWouldBlock
		}
		if err != want {
			t.Fatalf("%s with the request at place %d: %v, want %v", what, place, err, want)
		}
	}
	at := func(all ...int) bool {
		for _, p := range all {
			if p == place {
				return true
			}
		}
		return false
	}
	rt.Repeat(map[string]func(*rapid.T){
		"request": func(*rapid.T) {
			err := req.TrySend(message(fmt.Sprint(number + 1)))
			check("Req.Send", err, at(0), true)
			if err == nil {
				number++
				place = 1
			}
		},
		"take": func(*rapid.T) {
			synctest.Wait()
			m, err := rep.TryRecv()
			check("Rep.Recv", err, at(0, 1, 3), at(1))
			if err == nil {
				if text(m) != fmt.Sprint(number) {
					t.Fatalf("request %q, want %d", text(m), number)
				}
				place = 2
			}
		},
		"reply": func(*rapid.T) {
			err := rep.TrySend(message(fmt.Sprint(-number)))
			check("Rep.Send", err, at(2), true)
			if err == nil {
				place = 3
			}
		},
		"receive": func(*rapid.T) {
			synctest.Wait()
			m, err := req.TryRecv()
			check("Req.Recv", err, at(1, 2, 3), at(3))
			if err == nil {
				if text(m) != fmt.Sprint(-number) {
					t.Fatalf("reply %q, want %d", text(m), -number)
				}
				place = 0
			}
		},
	})
}
