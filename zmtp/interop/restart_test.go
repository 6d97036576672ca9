//go:build unix

package interop

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// TestRestart lets one end die without a word and come back on the same endpoint: the other
// reconnects, subscribes again and goes on. libzmq dies by kill -9.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, pair := range pairs {
		t.Run(strings.Join(pair[:], "-"), func(t *testing.T) {
			t.Parallel()
			stays := startPeer(t)
			for _, oursDies := range []bool{true, false} {
				for _, senderDies := range []bool{true, false} {
					for _, senderListens := range []bool{true, false} {
						name := fmt.Sprintf("ours dies=%v/sender dies=%v/sender listens=%v",
							oursDies, senderDies, senderListens)
						t.Run(name, func(t *testing.T) {
							restart(t, pair, stays, oursDies, senderDies, senderListens)
						})
					}
				}
			}
		})
	}
}

func restart(t *testing.T, pair [2]string, stays *peer, oursDies, senderDies, senderListens bool) {
	victimKind, survivorKind := pair[1], pair[0]
	if senderDies {
		victimKind, survivorKind = pair[0], pair[1]
	}
	victimListens := senderDies == senderListens
	var survivor end
	if oursDies {
		survivor = libzmq{stays}.open(t, survivorKind, options{})
	} else {
		survivor = open(t, survivorKind, options{})
	}
	// raise makes a new victim and returns how to kill it.
	raise := func() (victim end, kill func()) {
		if oursDies {
			e := open(t, victimKind, options{})
			return e, e.close
		}
		p := startPeer(t)
		return libzmq{p}.open(t, victimKind, options{}), p.Kill
	}
	inOrder := func(victim end) (snd, rcv end) {
		if senderDies {
			return victim, survivor
		}
		return survivor, victim
	}
	subscribe := func(e end, kind string) {
		if kind == "SUB" || kind == "XSUB" {
			e.subscribe("")
		}
	}

	victim, kill := raise()
	subscribe(survivor, survivorKind)
	subscribe(victim, victimKind)
	var endpoint string
	if victimListens {
		endpoint = link(victim, survivor, reserve(t))
	} else {
		endpoint = link(survivor, victim, "tcp://127.0.0.1:*")
	}
	for range 2 {
		snd, rcv := inOrder(victim)
		settle(t, snd, rcv)
		for i := range 10 {
			snd.send("message", fmt.Sprint(i))
		}
		for i := range 10 {
			checkMessage(t, rcv.recv(), []string{"message", fmt.Sprint(i)})
		}
		kill()
		victim, kill = raise()
		subscribe(victim, victimKind)
		if victimListens {
			listenAgain(t, victim, endpoint)
		} else {
			victim.connect(endpoint)
		}
	}
	kill()
}

// listenAgain listens on an endpoint whose last owner has just gone.
func listenAgain(t *testing.T, e end, endpoint string) {
	t.Helper()
	if bound := e.listen(endpoint); bound != endpoint {
		t.Fatalf("listens on %s instead of %s", bound, endpoint)
	}
}

// reserve returns the TCP endpoint of a reserved port.
func reserve(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("tcp://127.0.0.1:%d", testkit.ReservePort(t))
}

// TestConnectBeforeBind is libzmq's bind_after_connect: what was sent before anybody listened
// arrives.
func TestConnectBeforeBind(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("PUSH of %v", role[0]), func(t *testing.T) {
			endpoint := reserve(t)
			push, pull := role[0].open(t, "PUSH", options{}), role[1].open(t, "PULL", options{})
			push.connect(endpoint)
			for i := range 3 {
				push.send(fmt.Sprint(i))
			}
			listenAgain(t, pull, endpoint)
			for i := range 3 {
				checkMessage(t, pull.recv(), []string{fmt.Sprint(i)})
			}
		})
		for _, sub := range []string{"SUB", "XSUB"} {
			t.Run(fmt.Sprintf("%s of %v", sub, role[0]), func(t *testing.T) {
				endpoint := reserve(t)
				s, x := role[0].open(t, sub, options{}), role[1].open(t, "XPUB", options{})
				s.connect(endpoint)
				s.subscribe("a")
				listenAgain(t, x, endpoint)
				checkMessage(t, x.recv(), []string{"\x01a"})
				x.send("a", "b")
				checkMessage(t, s.recv(), []string{"a", "b"})
			})
		}
	}
}

// TestLostSubscriber kills a subscriber: an XPUB tells of its cancellations, once for each topic
// that nobody has any more.
func TestLostSubscriber(t *testing.T) {
	t.Parallel()
	t.Run("libzmq killed", func(t *testing.T) {
		p, stays := startPeer(t), startPeer(t)
		lostSubscriber(t, open(t, "XPUB", options{}), libzmq{p}.open(t, "SUB", options{}),
			libzmq{stays}.open(t, "SUB", options{}), p.Kill)
	})
	t.Run("ours closed", func(t *testing.T) {
		p := startPeer(t)
		lost := open(t, "SUB", options{})
		lostSubscriber(t, libzmq{p}.open(t, "XPUB", options{}), lost,
			libzmq{p}.open(t, "SUB", options{}), lost.close)
	})
}

func lostSubscriber(t *testing.T, xpub, lost, stays end, kill func()) {
	endpoint := xpub.listen("tcp://127.0.0.1:*")
	lost.connect(endpoint)
	for _, topic := range []string{"both", "own"} {
		lost.subscribe(topic)
		checkMessage(t, xpub.recv(), []string{"\x01" + topic})
	}
	stays.connect(endpoint)
	stays.subscribe("both")
	stays.subscribe("here")
	checkMessage(t, xpub.recv(), []string{"\x01here"})
	kill()
	checkMessage(t, xpub.recv(), []string{"\x00own"})
	stays.unsubscribe("both")
	checkMessage(t, xpub.recv(), []string{"\x00both"})
}

// TestReconnectUntilTheHandshake lets a listener hang up several times before a libzmq peer takes
// its place.
func TestReconnectUntilTheHandshake(t *testing.T) {
	t.Parallel()
	endpoint := reserve(t)
	push := open(t, "PUSH", options{})
	mon := push.Monitor(1000)
	push.connect(endpoint)
	push.send("patient")
	awaitEvent(t, mon, zmtp.EventConnectRetried)
	l, err := net.Listen("tcp4", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	l.Close()
	pull := libzmq{startPeer(t)}.open(t, "PULL", options{})
	listenAgain(t, pull, endpoint)
	checkMessage(t, pull.recv(), []string{"patient"})
}

// TestTruncatedNever kills a PUSH in the middle of its messages, which have ten parts: none arrives
// incomplete.
func TestTruncatedNever(t *testing.T) {
	t.Parallel()
	const nparts, size = 10, 20000
	pull := open(t, "PULL", options{recvHWM: 2})
	endpoint := pull.listen("tcp://127.0.0.1:*")
	mon := pull.Monitor(1000)
	var p *peer
	check := func(m []string) {
		t.Helper()
		if len(m) != nparts {
			t.Fatalf("a message of %d parts, want %d", len(m), nparts)
		}
		for _, part := range m {
			if part != m[0] {
				t.Fatal("parts of different messages in one")
			}
		}
	}
	for round := range 5 {
		p = startPeer(t)
		push := p.socket(t, "PUSH", options{sendHWM: 10})
		push.connect(endpoint)
		push.start("flood", testkit.Args{"parts": nparts, "size": size})
		for range 20 + 3*round {
			check(pull.recv())
		}
		p.Kill()
		testkit.Eventually(t, "the loss of the peer", func() bool {
			if m, ok := pull.tryRecv(moment); ok {
				check(m)
			}
			select {
			case e := <-mon.Events():
				return e.Type == zmtp.EventDisconnected
			default:
				return false
			}
		})
	}
	p = startPeer(t)
	push := p.socket(t, "PUSH", options{})
	push.connect(endpoint)
	push.send("end")
	testkit.Eventually(t, "the message of another peer", func() bool {
		m := pull.recv()
		if len(m) == 1 && m[0] == "end" {
			return true
		}
		check(m)
		return false
	})
}

// TestTruncatedNeverThere is the same with a PUSH of ours between two PULLs, of which one is killed
// while it receives: the other gets whole messages, once each, and all that had not gone out to the
// one that is gone.
func TestTruncatedNeverThere(t *testing.T) {
	t.Parallel()
	const n = 600
	push := open(t, "PUSH", options{sendHWM: 50})
	endpoint := push.listen("tcp://127.0.0.1:*")
	victim, stays := startPeer(t), startPeer(t)
	victim.socket(t, "PULL", options{recvHWM: 50, recvBuf: 8192}).connect(endpoint)
	testkit.Eventually(t, "the first peer", func() bool { return push.Stats().Peers == 1 })
	stuck := push.Peers()[0]
	// Its kernel's buffer is no smaller than a segment of the loopback, so that no timers of TCP
	// set the pace of 30 MB.
	pull := stays.socket(t, "PULL", options{recvHWM: 50})
	pull.connect(endpoint)
	testkit.Eventually(t, "both peers", func() bool { return push.Stats().Peers == 2 })
	sent := push.burst("topic", "ours", n, 50000)
	// The victim does not receive, so that messages are under way to it when it dies.
	still := 0
	testkit.Eventually(t, "messages on their way", func() bool {
		for _, ps := range push.Peers() {
			if ps.ID == stuck.ID {
				if still++; ps.Queued == 0 || ps.Written != stuck.Written {
					still = 0
				}
				stuck = ps
			}
		}
		return still == 100
	})
	victim.Kill()
	testkit.Eventually(t, "the loss of the peer", func() bool { return push.Stats().Peers == 1 })
	gone := func() int {
		return int(stuck.Out.Messages) - stuck.Queued +
			int(push.Stats().Dropped[zmtp.DropConnectionLost])
	}
	got := gather(t, func() int { return n - gone() }, pull)
	sent()
	seen := map[int]bool{}
	for _, number := range got["ours"] {
		seen[number] = true
	}
	if got.total() != n-gone() || len(seen) != n-gone() {
		t.Errorf("%d messages received, %d different ones, and %d had gone out to the other one, "+
			"of %d", got.total(), len(seen), gone(), n)
	}
}

// awaitEvent waits for an event of the given type.
func awaitEvent(t *testing.T, m *zmtp.Monitor, want zmtp.EventType) zmtp.Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e, ok := <-m.Events():
			if !ok {
				t.Fatalf("the monitor has ended without %v", want)
			}
			if e.Type == want {
				return e
			}
		case <-deadline:
			t.Fatalf("no event %v within %v", want, patience)
		}
	}
}
