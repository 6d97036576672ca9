package main

import (
	"errors"
	"fmt"
	"io"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// watchConnections prints why a tool's socket is not connected: the first failure of each endpoint,
// and again when the reason changes. It also prints the connection that ends a failure. It ends
// with the socket.
func watchConnections(s interface {
	Monitor(buffer int) *zmtp.Monitor
}, stderr io.Writer) {
	events := s.Monitor(256).Events()
	go func() {
		w := connectionWatch{w: stderr, failed: map[string]string{}}
		for e := range events {
			w.note(e)
		}
	}()
}

// maxWatched bounds the peers of listening sockets of which a connectionWatch remembers the
// failure.
const maxWatched = 100

// connectionWatch prints changes in the state of connections.
type connectionWatch struct {
	w      io.Writer
	failed map[string]string // the last failure, by endpoint, or host of a peer that connects to us
}

// note prints what an event tells anew.
func (c *connectionWatch) note(e zmtp.Event) {
	name, failure := e.Endpoint, ""
	switch e.Type {
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
		failure = "cannot connect: " + rootCause(e.Err).Error()
	case zmtp.EventHandshakeFailedNoDetail, zmtp.EventHandshakeFailedProtocol, zmtp.EventHandshakeFailedAuth:
		failure = "no handshake: " + explainHandshake(e.Err)
	default:
		return
	}
	if c.failed[name] == failure || len(c.failed) >= maxWatched {
		return
	}
	c.failed[name] = failure
	fmt.Fprintf(c.w, "zmtpd: %s: %s; trying again\n", name, failure)
}

// rootCause returns the innermost error: of "dial tcp 127.0.0.1:1: connect: connection refused" the
// last part, since the endpoint is named already.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// explainHandshake says why a handshake failed, and what to do about the most likely causes.
func explainHandshake(err error) string {
	text := "unknown reason"
	if err != nil {
		text = err.Error()
	}
	var reason wire.Reason
	if closed, ok := errors.AsType[*zmtp.PeerClosedError](err); ok {
		reason = closed.Reason
		if closed.Err != nil {
			text = closed.Err.Error()
		}
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		reason, text = e.Reason, e.Error()
	}
	switch reason {
	case wire.MechanismMismatch:
		return text +
			" (for CURVE give --curve-server-key and --curve-secret-key-file; without them the " +
			"mechanism is NULL)"
	case wire.PeerClosed, wire.ConnectionLost:
		return "the other side closes the connection (it may not know our key or not accept our " +
			"address, or it speaks another protocol): " + text
	case wire.NotZMTP:
		return text + " (is this the port of a ZeroMQ socket?)"
	}
	return text
}
