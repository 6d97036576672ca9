package tool

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
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

// A tool that is stopped while it connects does not say that it tries again.
func TestOwnEndIsNoFailure(t *testing.T) {
	var out strings.Builder
	w := newConnectionWatch(&out)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, dialErr := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
	for _, e := range []zmtp.Event{
		{Type: zmtp.EventClosed, Err: dialErr},
		{Type: zmtp.EventClosed, Err: context.Canceled},
		{Type: zmtp.EventHandshakeFailedNoDetail, Err: &zmtp.PeerClosedError{
			Reason: wire.LocalClose, Stage: "handshake", Err: net.ErrClosed}},
	} {
		w.note(e)
		if out.Len() > 0 {
			t.Errorf("%v: printed %q", e.Err, out.String())
			out.Reset()
		}
	}
}
