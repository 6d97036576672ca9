//go:build unix

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// pairs are the socket types that talk to each other: sender and receiver.
var pairs = [][2]string{{"PUB", "SUB"}, {"PUB", "XSUB"}, {"XPUB", "SUB"}, {"XPUB", "XSUB"},
	{"PUSH", "PULL"}}

// roles are the sides of sender and receiver; one is libzmq with the peer of the test.
func roles(p *peer) [][2]side {
	return [][2]side{{ours{}, libzmq{p}}, {libzmq{p}, ours{}}}
}

// transports are endpoints to listen on.
var transports = map[string]func(*testing.T) string{
	"tcp4": func(*testing.T) string { return "tcp://127.0.0.1:*" },
	"tcp6": func(*testing.T) string { return "tcp://[::1]:*" },
	"ipc":  ipcEndpoint,
}

// ipcEndpoint returns an endpoint with a path that is short enough for every system, which
// t.TempDir's is not.
func ipcEndpoint(t *testing.T) string {
	dir, err := os.MkdirTemp("", "zmq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "ipc://" + filepath.Join(dir, "socket")
}

// link binds one of two ends, connects the other, and returns the endpoint.
func link(listener, connecter end, endpoint string) string {
	bound := listener.listen(endpoint)
	connecter.connect(bound)
	return bound
}

// settle returns when messages go from snd to rcv, and none of its own are left. Nothing says when
// a PUB has taken a subscription, so it sends until something arrives. rcv must have subscribed
// everything.
func settle(t *testing.T, snd, rcv end) {
	t.Helper()
	testkit.Eventually(t, "a first message", func() bool {
		if !snd.trySend("\xfeprobe") {
			return false
		}
		_, ok := rcv.tryRecv(moment)
		return ok
	})
	snd.send("\xfesettled")
	for rcv.recv()[0] != "\xfesettled" {
	}
}

const (
	// huge is a size in bytes that no buffer of either library holds. It takes most of the time of
	// a test, so that not every combination has it but in the nightly run.
	huge = 5 << 20
	// large is a size that takes several reads and writes.
	large = 600_000
)

// theMessages are of every size form of a frame, and of few and many parts, the largest of most
// bytes.
func theMessages(most int) [][]string {
	var all [][]string
	for _, n := range []int{0, 1, 2, 254, 255, 256, 257, 65535, 65536, most} {
		all = append(all, []string{testkit.Pattern(n)})
	}
	for _, n := range []int{2, 3, 10, 1000} {
		var parts []string
		for i := range n {
			parts = append(parts, testkit.Pattern([]int{255, 0, 256, 1, 3}[i%5]))
		}
		all = append(all, parts)
	}
	return append(all, []string{"topic", testkit.Pattern(65536), testkit.Pattern(most), "",
		testkit.Pattern(65535)})
}

// TestEveryPair sends messages of all sizes between all pairs of types, in both directions, with
// either end listening, over all transports.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	for _, pair := range pairs {
		t.Run(strings.Join(pair[:], "-"), func(t *testing.T) {
			t.Parallel()
			for _, role := range roles(startPeer(t)) {
				for transport, endpoint := range transports {
					for _, senderListens := range []bool{true, false} {
						name := fmt.Sprintf("from %v/%s/sender listens=%v", role[0], transport,
							senderListens)
						t.Run(name, func(t *testing.T) {
							o := options{ipv6: transport == "tcp6"}
							snd, rcv := role[0].open(t, pair[0], o), role[1].open(t, pair[1], o)
							if pair[1] != "PULL" {
								rcv.subscribe("")
							}
							if senderListens {
								link(snd, rcv, endpoint(t))
							} else {
								link(rcv, snd, endpoint(t))
							}
							settle(t, snd, rcv)
							most := large
							if transport == "tcp4" && senderListens || testkit.Nightly() {
								most = huge
							}
							for _, want := range theMessages(most) {
								snd.send(want...)
							}
							for _, want := range theMessages(most) {
								checkMessage(t, rcv.recv(), want)
							}
						})
					}
				}
			}
		})
	}
}

// checkMessage compares two messages that may be large.
func checkMessage(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("got %d parts, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("part %d of %d: got %d bytes, %.80q; want %d, %.80q", i, len(want),
				len(got[i]), got[i], len(want[i]), want[i])
		}
	}
}

// TestUpstream sends messages from subscriber to publisher: XPUB passes them to the application,
// PUB drops them.
func TestUpstream(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, subscriberListens := range []bool{true, false} {
			t.Run(fmt.Sprintf("from %v/subscriber listens=%v", role[0], subscriberListens),
				func(t *testing.T) {
					sub, pub := role[0].open(t, "XSUB", options{}),
						role[1].open(t, "XPUB", options{})
					if subscriberListens {
						link(sub, pub, "tcp://127.0.0.1:*")
					} else {
						link(pub, sub, "tcp://127.0.0.1:*")
					}
					// An XSUB that listens has nobody to send to before the handshake.
					sub.subscribe("a")
					checkMessage(t, pub.recv(), []string{"\x01a"})
					for _, m := range [][]string{{"hello"}, {""}, {"\x02"}, {"x", "", "\xff"}, {testkit.Pattern(300)}, {testkit.Pattern(5 << 20), "end"}} {
						sub.send(m...)
						checkMessage(t, pub.recv(), m)
					}
					sub.unsubscribe("a")
					checkMessage(t, pub.recv(), []string{"\x00a"})
				})
		}
		t.Run(fmt.Sprintf("from %v to PUB", role[0]), func(t *testing.T) {
			sub, pub := role[0].open(t, "XSUB", options{}), role[1].open(t, "PUB", options{})
			sub.subscribe("")
			link(pub, sub, "tcp://127.0.0.1:*")
			settle(t, pub, sub)
			sub.send("nobody reads this")
			pub.send("still there")
			checkMessage(t, sub.recv(), []string{"still there"})
		})
	}
}
