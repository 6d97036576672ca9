//go:build unix

package interop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// conversations are the pairs of types in which both ends send: the one that begins, and the other.
var conversations = [][2]string{{"REQ", "REP"}, {"REQ", "ROUTER"}, {"DEALER", "REP"},
	{"DEALER", "ROUTER"}, {"DEALER", "DEALER"}, {"PAIR", "PAIR"}}

// delimited returns m as a socket of type kind sends and receives it, so that a REP at the other
// end understands it.
func delimited(kind string, m []string) []string {
	switch kind {
	case "DEALER", "ROUTER":
		return append([]string{""}, m...)
	}
	return m
}

// ask sends m from client to server and back, and returns the routing id of the client if the
// server is a ROUTER.
func ask(t *testing.T, kinds [2]string, client, server end, m []string) (id string) {
	t.Helper()
	client.send(delimited(kinds[0], m)...)
	got := server.recv()
	reply := delimited(kinds[1], m)
	if kinds[1] == "ROUTER" {
		id, got = got[0], got[1:]
		checkMessage(t, got, reply)
		reply = append([]string{id}, reply...)
	} else {
		checkMessage(t, got, reply)
	}
	server.send(reply...)
	checkMessage(t, client.recv(), delimited(kinds[0], m))
	return id
}

// TestConversations sends messages of all sizes there and back between all pairs of types, with
// either end listening, over all transports. It is libzmq's test_reqrep_tcp, test_reqrep_ipc,
// test_pair_tcp, test_pair_ipc, test_spec_req, test_spec_rep, test_spec_dealer, test_spec_router.
func TestConversations(t *testing.T) {
	t.Parallel()
	for _, kinds := range conversations {
		t.Run(strings.Join(kinds[:], "-"), func(t *testing.T) {
			t.Parallel()
			for _, role := range roles(startPeer(t)) {
				for transport, endpoint := range transports {
					for _, serverListens := range []bool{true, false} {
						t.Run(fmt.Sprintf("%v asks/%s/server listens=%v", role[0], transport,
							serverListens), func(t *testing.T) {
							o := options{ipv6: transport == "tcp6"}
							client := role[0].open(t, kinds[0], o)
							server := role[1].open(t, kinds[1], o)
							if serverListens {
								link(server, client, endpoint(t))
							} else {
								link(client, server, endpoint(t))
							}
							most := 70_000
							if transport == "tcp4" && serverListens || testkit.Nightly() {
								most = large
							}
							for _, m := range theMessages(most) {
								ask(t, kinds, client, server, m)
							}
						})
					}
				}
			}
		})
	}
}

// TestRouters connects ROUTERs of both libraries: each is called by its routing id.
func TestRouters(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("%v connects", role[0]), func(t *testing.T) {
			a := role[0].open(t, "ROUTER", options{routingID: "a", mandatory: true})
			b := role[1].open(t, "ROUTER", options{routingID: "b", probe: true})
			link(b, a, "tcp://127.0.0.1:*")
			checkMessage(t, a.recv(), []string{"b", ""}) // from PROBE_ROUTER
			a.send("b", "hello")
			checkMessage(t, b.recv(), []string{"a", "hello"})
			b.send("a", "back", "")
			checkMessage(t, a.recv(), []string{"b", "back", ""})
		})
	}
}

// TestProbeRouter is libzmq's test_probe_router: a DEALER or ROUTER that connects sends an empty
// message, so that the ROUTER knows it.
func TestProbeRouter(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, kind := range []string{"DEALER", "ROUTER", "REQ"} {
			t.Run(fmt.Sprintf("%s of %v", kind, role[0]), func(t *testing.T) {
				router := role[1].open(t, "ROUTER", options{})
				client := role[0].open(t, kind, options{probe: true, routingID: "X"})
				link(router, client, "tcp://127.0.0.1:*")
				checkMessage(t, router.recv(), []string{"X", ""})
			})
		}
	}
}

// TestRouterMandatory is libzmq's test_router_mandatory: a message to nobody is EHOSTUNREACH; once
// the peer is there it arrives.
func TestRouterMandatory(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	router := open(t, "ROUTER", options{mandatory: true})
	endpoint := router.listen("tcp://127.0.0.1:*")
	if err := router.tryOut(zmtp.NewMessageString("X", "x")); !errors.Is(err, zmtp.ErrNoPeer) {
		t.Errorf("to nobody: %v", err)
	}
	dealer := libzmq{p}.open(t, "DEALER", options{routingID: "X"})
	dealer.connect(endpoint)
	dealer.send("hello")
	checkMessage(t, router.recv(), []string{"X", "hello"})
	router.send("X", "world")
	checkMessage(t, dealer.recv(), []string{"world"})
	dealer.close()
	testkit.Eventually(t, "the end of the peer", func() bool {
		return errors.Is(router.tryOut(zmtp.NewMessageString("X", "x")), zmtp.ErrNoPeer)
	})
}

// TestRouterMandatoryHWM is libzmq's test_router_mandatory_hwm: when the peer does not read, the
// ROUTER is told so, and goes on when it does.
func TestRouterMandatoryHWM(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	router := open(t, "ROUTER", options{mandatory: true, sendHWM: 1, sendBuf: 16 << 10})
	dealer := libzmq{p}.open(t, "DEALER", options{routingID: "X", recvHWM: 1, recvBuf: 16 << 10})
	link(router, dealer, "tcp://127.0.0.1:*")
	dealer.send("hello")
	checkMessage(t, router.recv(), []string{"X", "hello"})
	body := strings.Repeat("x", 65536)
	sent := 0
	for router.trySend("X", body) {
		if sent++; sent > 1000 {
			t.Fatal("1000 messages of 64 KiB fit a queue of one")
		}
	}
	for range sent {
		checkMessage(t, dealer.recv(), []string{body})
	}
	router.send("X", "after")
	checkMessage(t, dealer.recv(), []string{"after"})
}

// TestRouterHandover is libzmq's test_router_handover: of two DEALERs with one routing id the
// second takes it, or with the option off the first keeps it.
func TestRouterHandover(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, handover := range []bool{true, false} {
			t.Run(fmt.Sprintf("ROUTER of %v, handover=%v", role[1], handover), func(t *testing.T) {
				router := role[1].open(t, "ROUTER", options{handover: handover})
				endpoint := router.listen("tcp://127.0.0.1:*")
				first := role[0].open(t, "DEALER", options{routingID: "X"})
				first.connect(endpoint)
				first.send("first")
				checkMessage(t, router.recv(), []string{"X", "first"})
				second := role[0].open(t, "DEALER", options{routingID: "X"})
				second.connect(endpoint)
				second.send("second")
				if !handover {
					first.send("still first")
					checkMessage(t, router.recv(), []string{"X", "still first"})
					router.send("X", "to the first")
					checkMessage(t, first.recv(), []string{"to the first"})
					return
				}
				checkMessage(t, router.recv(), []string{"X", "second"})
				router.send("X", "to the second")
				checkMessage(t, second.recv(), []string{"to the second"})
			})
		}
	}
}

// TestReqCorrelate is libzmq's test_req_correlate and test_req_relaxed: a REQ sends a number with
// each request, sends the next one without a reply to the last, and takes the reply that has the
// number of the last.
func TestReqCorrelate(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("REQ of %v", role[0]), func(t *testing.T) {
			req := role[0].open(t, "REQ", options{correlate: true, relaxed: true})
			router := role[1].open(t, "ROUTER", options{})
			link(req, router, "tcp://127.0.0.1:*")
			var asked [][]string
			for i := range 3 {
				req.send(fmt.Sprint(i))
				m := router.recv()
				if len(m) != 4 || len(m[1]) != 4 || m[2] != "" || m[3] != fmt.Sprint(i) {
					t.Fatalf("the ROUTER received %q", m)
				}
				asked = append(asked, m)
			}
			for _, m := range asked {
				router.send(m[0], m[1], "", "reply to "+m[3])
			}
			checkMessage(t, req.recv(), []string{"reply to 2"})
		})
		t.Run(fmt.Sprintf("REQ of %v with a REP", role[0]), func(t *testing.T) {
			req := role[0].open(t, "REQ", options{correlate: true})
			rep := role[1].open(t, "REP", options{})
			link(rep, req, "tcp://127.0.0.1:*")
			for i := range 3 {
				ask(t, [2]string{"REQ", "REP"}, req, rep, []string{fmt.Sprint(i), ""})
			}
		})
	}
}

// TestReqBadReplies is libzmq's test_invalid_rep: replies without an envelope do not disturb a REQ,
// which takes the good one.
func TestReqBadReplies(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	req := open(t, "REQ", options{})
	router := libzmq{p}.open(t, "ROUTER", options{})
	link(req, router, "tcp://127.0.0.1:*")
	req.send("q")
	id := router.recv()[0]
	for _, bad := range [][]string{{id, "bottom"}, {id, ""}, {id, "a", "", "b"}} {
		router.send(bad...)
	}
	router.send(id, "", "good")
	checkMessage(t, req.recv(), []string{"good"})
}

// TestRepEnvelopes is libzmq's test_spec_rep: a REP sends the whole envelope back, of any number of
// parts.
func TestRepEnvelopes(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("REP of %v", role[1]), func(t *testing.T) {
			dealer := role[0].open(t, "DEALER", options{})
			rep := role[1].open(t, "REP", options{})
			link(rep, dealer, "tcp://127.0.0.1:*")
			dealer.send("a request without delimiter")
			for n := range 5 {
				envelope := append(slices.Repeat([]string{"envelope"}, n), "")
				dealer.send(append(slices.Clone(envelope), "body", "")...)
				checkMessage(t, rep.recv(), []string{"body", ""})
				rep.send("reply")
				checkMessage(t, dealer.recv(), append(envelope, "reply"))
			}
		})
	}
}

// TestManyDealers is libzmq's test_issue_566: DEALERs come and go, and the ROUTER reaches each of
// them.
func TestManyDealers(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	router := open(t, "ROUTER", options{mandatory: true})
	endpoint := router.listen("tcp://127.0.0.1:*")
	for i := range 100 {
		id := fmt.Sprintf("%09d", i)
		dealer := libzmq{p}.open(t, "DEALER", options{routingID: id})
		dealer.connect(endpoint)
		testkit.Eventually(t, "the peer", func() bool {
			return !errors.Is(router.tryOut(zmtp.NewMessageString(id, "hello")), zmtp.ErrNoPeer)
		})
		checkMessage(t, dealer.recv(), []string{"hello"})
		dealer.close()
	}
}

// TestRoundRobinOfRequests is libzmq's test_spec_req and test_spec_dealer: requests go to the peers
// in turn.
func TestRoundRobinOfRequests(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, kind := range []string{"REQ", "DEALER"} {
			t.Run(fmt.Sprintf("%s of %v", kind, role[0]), func(t *testing.T) {
				client := role[0].open(t, kind, options{})
				served := make([]int, 3)
				var reps []end
				for range served {
					rep := role[1].open(t, "REP", options{})
					client.connect(rep.listen("tcp://127.0.0.1:*"))
					reps = append(reps, rep)
				}
				for range 30 {
					client.send(delimited(kind, []string{"q"})...)
					testkit.Eventually(t, "the request", func() bool {
						for i, rep := range reps {
							if _, ok := rep.tryRecv(moment / 10); ok {
								served[i]++
								rep.send("a")
								return true
							}
						}
						return false
					})
					client.recv()
				}
				if !slices.Equal(served, []int{10, 10, 10}) {
					t.Errorf("three REPs got %v of 30 requests", served)
				}
			})
		}
	}
}

// TestPairSecond is about a PAIR with two peers: the second has no part in it (libzmq, pair.cpp).
func TestPairSecond(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("%v listens", role[1]), func(t *testing.T) {
			pair := role[1].open(t, "PAIR", options{})
			endpoint := pair.listen("tcp://127.0.0.1:*")
			first := role[0].open(t, "PAIR", options{})
			first.connect(endpoint)
			first.send("first")
			checkMessage(t, pair.recv(), []string{"first"})
			second := role[0].open(t, "PAIR", options{})
			second.connect(endpoint)
			second.send("second")
			first.send("first again")
			pair.send("to the first")
			checkMessage(t, pair.recv(), []string{"first again"})
			checkMessage(t, first.recv(), []string{"to the first"})
		})
	}
}

// TestStreamSeesDealer is libzmq's test_stream: STREAM of one library reads the greeting and READY
// of a DEALER of the other, byte for byte, and talks to it.
func TestStreamSeesDealer(t *testing.T) {
	t.Parallel()
	greeting := string(wire.AppendGreeting(nil, "NULL", false))
	ready := func(kind string) string {
		m := wire.AppendProperty(nil, wire.PropSocketType, []byte(kind))
		return string(wire.AppendCommand(nil, wire.CmdReady,
			wire.AppendProperty(m, wire.PropIdentity, nil)))
	}
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("STREAM of %v", role[0]), func(t *testing.T) {
			stream := role[0].open(t, "STREAM", options{})
			dealer := role[1].open(t, "DEALER", options{})
			link(dealer, stream, "tcp://127.0.0.1:*")
			first := stream.recv()
			if len(first) != 2 || len(first[0]) != 5 || first[1] != "" {
				t.Fatalf("the first message is %q", first)
			}
			id, got := first[0], ""
			expect := func(want string) {
				t.Helper()
				for len(got) < len(want) {
					got += stream.recv()[1]
				}
				if got != want {
					t.Fatalf("the DEALER sent %q, want %q", got, want)
				}
				got = ""
			}
			stream.send(id, greeting)
			expect(greeting + ready("DEALER"))
			stream.send(id, ready("ROUTER"))
			stream.send(id, "\x01\x05hello\x00\x00")
			checkMessage(t, dealer.recv(), []string{"hello", ""})
			dealer.send("world")
			expect("\x00\x05world")
			stream.send(id, "")
			testkit.Eventually(t, "the end of the only peer",
				func() bool { return !dealer.trySend("x") })
		})
	}
}

// TestConflate is libzmq's test_conflate: a PULL that keeps the last message has the newest of 20.
func TestConflate(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("PULL of %v", role[1]), func(t *testing.T) {
			push, pull := role[0].open(t, "PUSH", options{}),
				role[1].open(t, "PULL", options{conflate: true})
			link(pull, push, "tcp://127.0.0.1:*")
			for i := range 20 {
				push.send(fmt.Sprint(i))
			}
			last := ""
			testkit.Eventually(t, "the last message", func() bool {
				if m, ok := pull.tryRecv(moment); ok {
					last = m[0]
				}
				return last == "19"
			})
		})
	}
}
