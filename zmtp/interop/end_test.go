//go:build unix

package interop

import (
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// end is a socket, ours or libzmq's. Its methods fail the test when something goes wrong, and must
// be called from the test's goroutine.
type end interface {
	listen(endpoint string) (bound string)
	connect(endpoint string)
	// subscribe and unsubscribe work on SUB and XSUB.
	subscribe(topic string)
	unsubscribe(topic string)
	// send waits for room; trySend does not.
	send(parts ...string)
	trySend(parts ...string) bool
	recv() []string
	// tryRecv waits for d.
	tryRecv(d time.Duration) ([]string, bool)
	// burst sends [topic, source, number, size bytes] n times, numbers from 0, waiting for room. It
	// returns a function that waits for the end. The end must not be used meanwhile.
	burst(topic, source string, n, size int) (wait func())
	// pump is burst without waiting for room: it returns how many messages were sent.
	pump(topic, source string, n, size int) int
	// tally receives what bursts send: n messages, or until none comes for quiet.
	tally(n int, quiet time.Duration) (wait func() tally)
	// close drops what is queued. It may be called again.
	close()
}

// tally is the numbers of the messages received, by source.
type tally map[string][]int

// total returns the number of messages.
func (ta tally) total() int {
	n := 0
	for _, numbers := range ta {
		n += len(numbers)
	}
	return n
}

// add adds the messages of another tally, which came later.
func (ta tally) add(later tally) {
	for source, numbers := range later {
		ta[source] = append(ta[source], numbers...)
	}
}

// gather receives from all ends until as many messages have come as want returns in the end, and
// then nothing more does.
func gather(t *testing.T, want func() int, all ...end) tally {
	t.Helper()
	got := tally{}
	defer func() {
		t.Helper()
		if t.Failed() {
			t.Logf("%d messages have come", got.total())
		}
	}()
	receive := func() {
		for _, e := range all {
			got.add(e.tally(1<<20, moment)())
		}
	}
	testkit.Eventually(t, "all messages come",
		func() bool { receive(); return got.total() >= want() })
	receive()
	return got
}

// complete fails the test unless there are the messages 0 to n-1 of each source, in order.
func (ta tally) complete(t *testing.T, n int, sources ...string) {
	t.Helper()
	for _, source := range sources {
		numbers := ta[source]
		if len(numbers) != n {
			t.Errorf("%d messages from %s, want %d", len(numbers), source, n)
		}
		for i, number := range numbers {
			if i != number {
				t.Errorf("message %d from %s is number %d", i, source, number)
				break
			}
		}
	}
	if len(ta) != len(sources) {
		t.Errorf("messages from %d sources, want %d", len(ta), len(sources))
	}
}

// increasing fails the test unless the messages of each source are in order, with nothing twice.
func (ta tally) increasing(t *testing.T) {
	t.Helper()
	for source, numbers := range ta {
		for i := 1; i < len(numbers); i++ {
			if numbers[i] <= numbers[i-1] {
				t.Fatalf("from %s: %d after %d", source, numbers[i], numbers[i-1])
			}
		}
	}
}

// options are those of a socket that both libraries have, by the meaning that libzmq gives them.
// Zero means the default.
type options struct {
	sendHWM, recvHWM  int
	sendBuf, recvBuf  int // of the kernel, bytes
	ipv6              bool
	verbose, verboser bool
	nodrop            bool
	welcome           string
	immediate         bool
	mandatory         bool
	handover          bool
	probe             bool
	relaxed           bool
	correlate         bool
	conflate          bool
	invert            bool   // InvertMatching
	onlyFirst         bool   // OnlyFirstSubscribe
	manualLast        bool   // of libzmq only: XPUB_MANUAL_LAST_VALUE
	user, password    string // of a PLAIN client
	plainServer       bool   // who admits theUser
	stop              zmtp.ReconnectStop
	routingID         string
	heartbeat         time.Duration
	heartbeatTimeout  time.Duration
	heartbeatTTL      time.Duration
	property          string // X-name:value
}

// side makes the sockets of one library.
type side interface {
	// open makes a socket that is closed at the end of the test.
	open(t *testing.T, kind string, o options) end
	String() string
}

// moment is how long tests wait for something that may well not come, before they try again.
const moment = 50 * time.Millisecond
