//go:build unix

package interop

import (
	"fmt"
	"testing"

	"zmtpd/zmtp/testkit"
)

// TestNetwork has three publishers, or three PUSHes, and three receivers, every other one libzmq's,
// all connected with all. Below the high-water mark nothing is lost.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for _, pair := range pairs {
		for _, sendersListen := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s-%s/senders listen=%v", pair[0], pair[1], sendersListen),
				func(t *testing.T) {
					t.Parallel()
					network(t, pair, sendersListen)
				})
		}
	}
}

func network(t *testing.T, pair [2]string, sendersListen bool) {
	// of each sender; the mark is 1000, and the messages with which it begins may count as well
	const n = 900
	// Each socket of libzmq has a process of its own, so that all work at the same time.
	socket := func(ofOurs bool, kind string) end {
		if ofOurs {
			return open(t, kind, options{})
		}
		return libzmq{startPeer(t)}.open(t, kind, options{})
	}
	senders, receivers := make(map[string]end), make([]end, 3)
	for i := range receivers {
		senders[fmt.Sprint("sender", i)] = socket(i%2 == 0, pair[0])
		receivers[i] = socket(i%2 == 1, pair[1])
		if pair[1] != "PULL" {
			receivers[i].subscribe("")
		}
	}
	for _, s := range senders {
		var endpoint string
		if sendersListen {
			endpoint = s.listen("tcp://127.0.0.1:*")
		}
		for _, r := range receivers {
			if sendersListen {
				r.connect(endpoint)
			}
		}
	}
	if !sendersListen {
		for _, r := range receivers {
			endpoint := r.listen("tcp://127.0.0.1:*")
			for _, s := range senders {
				s.connect(endpoint)
			}
		}
	}
	meet(t, senders, receivers, pair[0] == "PUSH")

	all := n * len(senders)
	each := all
	if pair[0] == "PUSH" {
		each = all / len(receivers)
	}
	var received []func() tally
	for _, r := range receivers {
		received = append(received, r.tally(each, patience))
	}
	var sent []func()
	for name, s := range senders {
		sent = append(sent, s.burst("topic", name, n, 100))
	}
	for _, wait := range sent {
		wait()
	}
	seen := make(map[string]bool)
	for i, wait := range received {
		got := wait()
		if got.total() != each {
			t.Errorf("receiver %d got %d messages, want %d", i, got.total(), each)
		}
		got.increasing(t)
		for name, numbers := range got {
			for _, number := range numbers {
				seen[fmt.Sprint(name, number)] = true
			}
		}
	}
	if len(seen) != all {
		t.Errorf("%d different messages arrived of %d", len(seen), all)
	}
}

// meet returns when every receiver gets messages of every sender, and none of its own are left.
func meet(t *testing.T, senders map[string]end, receivers []end, push bool) {
	t.Helper()
	met := make(map[string]bool)
	testkit.Eventually(t, "messages from everybody to everybody", func() bool {
		for name, s := range senders {
			s.trySend("probe", name)
		}
		for i, r := range receivers {
			for {
				m, ok := r.tryRecv(moment / 10)
				if !ok {
					break
				}
				met[fmt.Sprint(m[1], i)] = true
			}
		}
		return len(met) == len(senders)*len(receivers)
	})
	for name, s := range senders {
		s.send("met", name)
		for range len(receivers) - 1 {
			if push { // one for each
				s.send("met", name)
			}
		}
	}
	for _, r := range receivers {
		for left := len(senders); left > 0; {
			if r.recv()[0] == "met" {
				left--
			}
		}
	}
}
