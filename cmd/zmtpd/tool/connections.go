package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// WatchConnections prints why a socket is not connected: the first failure of each endpoint, a
// failure for another reason, and the connection that follows a failure. It ends with the socket.
func WatchConnections(s interface {
	Monitor(buffer int) *zmtp.Monitor
}, stderr io.Writer) {
	events := s.Monitor(256).Events()
	go func() {
		w := newConnectionWatch(stderr)
		for e := range events {
			w.note(e)
		}
	}()
}

// maxWatched bounds the endpoints whose failures a connectionWatch keeps.
const maxWatched = 100

// connectionWatch prints changes in the state of connections.
type connectionWatch struct {
	w         io.Writer
	failed    map[string]string   // the last failure, by endpoint
	listening map[string]struct{} // endpoints to which peers connect
}

func newConnectionWatch(w io.Writer) *connectionWatch {
	return &connectionWatch{w: w, failed: map[string]string{}, listening: map[string]struct{}{}}
}

// note prints an event that changes the state of an endpoint.
func (c *connectionWatch) note(e zmtp.Event) {
	if endedByTool(e.Err) {
		return
	}
	name, failure := e.Endpoint, ""
	switch e.Type {
	case zmtp.EventAccepted:
		c.listening[name] = struct{}{}
		return
	case zmtp.EventHandshakeSucceeded:
		if c.failed[name] != "" {
			fmt.Fprintf(c.w, "zmtpd: %s: connected\n", name)
			delete(c.failed, name)
		}
		return
	case zmtp.EventClosed:
		if e.Err == nil {
			return
		}
		failure = "cannot connect: " + daemon.RootCause(e.Err).Error()
	case zmtp.EventHandshakeFailedNoDetail, zmtp.EventHandshakeFailedProtocol,
		zmtp.EventHandshakeFailedAuth:
		failure = "handshake failed: " + explainHandshake(e.Err)
	default:
		return
	}
	if c.failed[name] == failure || len(c.failed) >= maxWatched {
		return
	}
	c.failed[name] = failure
	next := "; trying again"
	if _, ok := c.listening[name]; ok {
		next = "" // it is up to the peer to try again
	}
	fmt.Fprintf(c.w, "zmtpd: %s: %s%s\n", name, failure, next)
}

// endedByTool reports whether a connection failed only because the tool ends and closes its socket.
func endedByTool(err error) bool {
	if e, ok := errors.AsType[*zmtp.PeerClosedError](err); ok && e.Reason == wire.LocalClose {
		return true
	}
	return errors.Is(err, context.Canceled)
}

// explainHandshake returns why a handshake failed, and what to do about the likely causes.
func explainHandshake(err error) string {
	if err == nil {
		return "unknown reason"
	}
	text := err.Error()
	var reason wire.Reason
	if closed, ok := errors.AsType[*zmtp.PeerClosedError](err); ok {
		reason = closed.Reason
		if closed.Err != nil {
			text = closed.Err.Error()
		}
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		reason, text = e.Reason, e.Detail
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		reason = wire.HandshakeTimeout
	}
	switch reason {
	case wire.MechanismMismatch:
		return text + " (CURVE needs --curve-server-key and --curve-secret-key-file; without " +
			"them, or --plain-username for PLAIN, the mechanism is NULL)"
	case wire.PeerClosed, wire.ConnectionLost:
		return "the other side closed the connection (it may not know the key, not accept the " +
			"address, or speak another protocol): " + text
	case wire.HandshakeTimeout:
		return "no answer in time (is this the port of a ZeroMQ socket?)"
	case wire.NotZMTP:
		return text + " (is this the port of a ZeroMQ socket?)"
	}
	return text
}
