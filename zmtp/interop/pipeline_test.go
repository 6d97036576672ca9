//go:build unix

package interop

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// TestRoundRobin is libzmq's spec_pushpull: a PUSH gives each of three PULLs as much, whoever
// listens.
func TestRoundRobin(t *testing.T) {
	t.Parallel()
	const n = 300
	p := startPeer(t)
	for _, role := range roles(p) {
		for _, pushListens := range []bool{true, false} {
			t.Run(fmt.Sprintf("PUSH of %v/listens=%v", role[0], pushListens), func(t *testing.T) {
				push := role[0].open(t, "PUSH", options{})
				var pulls []end
				for range 3 {
					pulls = append(pulls, role[1].open(t, "PULL", options{}))
				}
				if pushListens {
					endpoint := push.listen("tcp://127.0.0.1:*")
					for _, pull := range pulls {
						pull.connect(endpoint)
					}
				} else {
					for _, pull := range pulls {
						push.connect(pull.listen("tcp://127.0.0.1:*"))
					}
				}
				joined(t, push, pulls)
				push.burst("topic", "push", n, 10)()
				seen := make(map[int]bool)
				for i, pull := range pulls {
					got := pull.tally(n/3, patience)()
					got.increasing(t)
					if got.total() != n/3 {
						t.Errorf("PULL %d got %d messages of %d, want a third", i, got.total(), n)
					}
					for _, number := range got["push"] {
						seen[number] = true
					}
				}
				if len(seen) != n {
					t.Errorf("%d different messages of %d", len(seen), n)
				}
			})
		}
	}
}

// joined sends until each of pulls has received something, and takes off what comes then.
func joined(t *testing.T, push end, pulls []end) {
	t.Helper()
	missing := make(map[end]bool)
	for _, pull := range pulls {
		missing[pull] = true
	}
	testkit.Eventually(t, "messages for every PULL", func() bool {
		push.trySend("probe")
		for pull := range missing {
			if _, ok := pull.tryRecv(moment / 10); ok {
				delete(missing, pull)
			}
		}
		return len(missing) == 0
	})
	for range pulls {
		push.send("joined")
	}
	for _, pull := range pulls {
		for pull.recv()[0] != "joined" {
		}
	}
}

// TestFairQueue has three PUSHes fill a PULL that does not receive, and takes their messages: they
// take turns.
func TestFairQueue(t *testing.T) {
	t.Parallel()
	const n = 50
	p := startPeer(t)
	pull := open(t, "PULL", options{})
	endpoint := pull.listen("tcp://127.0.0.1:*")
	for i := range 3 {
		push := libzmq{p}.open(t, "PUSH", options{})
		push.connect(endpoint)
		push.burst("topic", fmt.Sprint(i), n, 10)()
	}
	testkit.Eventually(t, "all messages", func() bool { return pull.Stats().RecvQueued == 3*n })
	for range n {
		turn := pull.tally(3, patience)()
		if len(turn) != 3 {
			t.Fatalf("three messages came from %d peers", len(turn))
		}
	}
}

// TestNobodyToSendTo is about a PUSH without peers.
func TestNobodyToSendTo(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	for _, s := range []side{ours{}, libzmq{p}} {
		push := s.open(t, "PUSH", options{})
		push.listen("tcp://127.0.0.1:*")
		if push.trySend("x") {
			t.Errorf("%v: a PUSH without peers takes a message", s)
		}
	}
}

// TestBackPressure lets a PULL not receive: the PUSH is told that there is no room, and nothing is
// lost.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	const hwm, size, most = 10, 10000, 100000
	for _, role := range roles(startPeer(t)) {
		for _, pushListens := range []bool{true, false} {
			t.Run(fmt.Sprintf("PUSH of %v/listens=%v", role[0], pushListens), func(t *testing.T) {
				push := role[0].open(t, "PUSH", options{sendHWM: hwm, sendBuf: 8192})
				pull := role[1].open(t, "PULL", options{recvHWM: hwm, recvBuf: 8192})
				if pushListens {
					link(push, pull, "tcp://127.0.0.1:*")
				} else {
					link(pull, push, "tcp://127.0.0.1:*")
				}
				settle(t, push, pull)
				sent := push.pump("topic", "first", most, size)
				if sent < hwm/2 || sent == most {
					t.Errorf("%d messages were taken until there was no room, with HWMs of %d",
						sent, hwm)
				}
				pull.tally(sent, patience)().complete(t, sent, "first")
				wait := pull.tally(1000, patience)
				push.burst("topic", "second", 1000, size)()
				wait().complete(t, 1000, "second")
			})
		}
	}
}

// TestImmediate is libzmq's test of that name: with one live and one dead endpoint, ten messages go
// five and five, or with ZMQ_IMMEDIATE all to the live one; and when that is gone, there is no
// room.
func TestImmediate(t *testing.T) {
	t.Parallel()
	for _, immediate := range []bool{false, true} {
		for _, pushSide := range []string{"ours", "libzmq"} {
			t.Run(fmt.Sprintf("immediate=%v/PUSH of %s", immediate, pushSide), func(t *testing.T) {
				t.Parallel()
				p := startPeer(t)
				role := roles(p)[0]
				if pushSide == "libzmq" {
					role = roles(p)[1]
				}
				push, pull := role[0].open(t, "PUSH", options{immediate: immediate}),
					role[1].open(t, "PULL", options{})
				live := pull.listen("tcp://127.0.0.1:*")
				push.connect(live)
				settle(t, push, pull)
				push.connect(reserve(t))
				want := 5
				if immediate {
					want = 10
				}
				push.burst("topic", "push", 10, 0)()
				got := pull.tally(want, patience)()
				if extra, ok := pull.tryRecv(moment); got.total() != want || ok {
					t.Errorf("%d messages of 10, and then %q, want %d", got.total(), extra, want)
				}
				if immediate {
					pull.close()
					testkit.Eventually(t, "no room when the only peer is gone",
						func() bool { return !push.trySend("x") })
				}
			})
		}
	}
}

// TestTermEndpoint is libzmq's term_endpoint: Unbind and Disconnect end the connections, and then
// there is nobody to send to.
func TestTermEndpoint(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	t.Run("our Unbind", func(t *testing.T) {
		push, pull := open(t, "PUSH", options{}), p.socket(t, "PULL", options{})
		pull.call("monitor", testkit.Args{})
		bound := link(push, pull, "tcp://127.0.0.1:*")
		settle(t, push, pull)
		if err := push.Unbind("tcp://127.0.0.1:*"); !errors.Is(err, zmtp.ErrNoEndpoint) {
			t.Errorf("Unbind with a wildcard: %v", err)
		}
		if err := push.Unbind(bound); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "no room", func() bool { return !push.trySend("x") })
		testkit.Eventually(t, "DISCONNECTED there",
			func() bool { return pull.nextEvent().Type == zmtp.EventDisconnected })
		if err := push.Unbind(bound); !errors.Is(err, zmtp.ErrNoEndpoint) {
			t.Errorf("second Unbind: %v", err)
		}
	})
	t.Run("our Disconnect", func(t *testing.T) {
		push, pull := open(t, "PUSH", options{}), p.socket(t, "PULL", options{})
		bound := link(pull, push, "tcp://127.0.0.1:*")
		settle(t, push, pull)
		push.send("the last")
		if err := push.Disconnect(bound); err != nil {
			t.Fatal(err)
		}
		checkMessage(t, pull.recv(), []string{"the last"})
		testkit.Eventually(t, "no room", func() bool { return !push.trySend("x") })
		if err := push.Disconnect(bound); !errors.Is(err, zmtp.ErrNoEndpoint) {
			t.Errorf("second Disconnect: %v", err)
		}
	})
	t.Run("unbind there", func(t *testing.T) {
		push, pull := open(t, "PUSH", options{immediate: true}), p.socket(t, "PULL", options{})
		mon := push.Monitor(1000)
		bound := link(pull, push, reserve(t))
		settle(t, push, pull)
		pull.call("unbind", testkit.Args{"endpoint": bound})
		awaitEvent(t, mon, zmtp.EventDisconnected)
		testkit.Eventually(t, "no room", func() bool { return !push.trySend("x") })
		listenAgain(t, pull, bound)
		settle(t, push, pull)
	})
	t.Run("disconnect there", func(t *testing.T) {
		push, pull := open(t, "PUSH", options{}), p.socket(t, "PULL", options{})
		bound := link(push, pull, "tcp://127.0.0.1:*")
		settle(t, push, pull)
		pull.call("disconnect", testkit.Args{"endpoint": bound})
		testkit.Eventually(t, "no room", func() bool { return !push.trySend("x") })
		pull.connect(bound)
		settle(t, push, pull)
	})
}

// TestLinger closes a socket with messages queued for an endpoint on which somebody listens only
// later.
func TestLinger(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	const n = 500
	t.Run("ours", func(t *testing.T) {
		endpoint := reserve(t)
		push, pull := open(t, "PUSH", options{}), libzmq{p}.open(t, "PULL", options{})
		push.connect(endpoint)
		push.burst("topic", "push", n, 1000)()
		done := make(chan error, 1)
		go func() { done <- push.Shutdown(t.Context()) }()
		listenAgain(t, pull, endpoint)
		pull.tally(n, patience)().complete(t, n, "push")
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Shutdown does not return")
		}
	})
	t.Run("libzmq", func(t *testing.T) {
		endpoint := reserve(t)
		push, pull := p.socket(t, "PUSH", options{}), open(t, "PULL", options{})
		push.connect(endpoint)
		push.burst("topic", "push", n, 1000)()
		push.closeLinger(patience)
		listenAgain(t, pull, endpoint)
		pull.tally(n, patience)().complete(t, n, "push")
	})
}
