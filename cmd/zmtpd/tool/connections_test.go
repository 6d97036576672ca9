package tool

import (
	"errors"
	"strings"
	"testing"

	"zmtpd/zmtp"
)

// A failure of an endpoint is printed once until its reason changes. Only an endpoint to which the
// tool connects is tried again by the tool.
func TestFailuresArePrintedWhenTheyChange(t *testing.T) {
	var out strings.Builder
	w := newConnectionWatch(&out)
	failed := func(endpoint, reason string) {
		w.note(zmtp.Event{Type: zmtp.EventHandshakeFailedProtocol, Endpoint: endpoint,
			Err: errors.New(reason)})
	}
	failed("tcp://a", "one")
	failed("tcp://a", "one")
	failed("tcp://a", "two")
	w.note(zmtp.Event{Type: zmtp.EventHandshakeSucceeded, Endpoint: "tcp://a"})
	w.note(zmtp.Event{Type: zmtp.EventAccepted, Endpoint: "tcp://b"})
	failed("tcp://b", "three")
	const want = `zmtpd: tcp://a: handshake failed: one; trying again
zmtpd: tcp://a: handshake failed: two; trying again
zmtpd: tcp://a: connected
zmtpd: tcp://b: handshake failed: three
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}
