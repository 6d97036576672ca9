package zmtp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"zmtpd/zmtp/wire"
)

// Errors of the sockets. Compare with errors.Is.
var (
	// ErrWouldBlock is returned by the methods that do not wait, when they would have to: libzmq's
	// EAGAIN.
	ErrWouldBlock error = &sentinel{"zmtp: operation would block", syscall.EAGAIN}
	// ErrClosed is returned once a socket is closed: libzmq's ETERM. It wraps net.ErrClosed.
	ErrClosed error = &sentinel{"zmtp: socket is closed", net.ErrClosed}
	// ErrEndpoint is wrapped by the errors about an endpoint that is not well formed or not
	// supported.
	ErrEndpoint = errors.New("zmtp: bad endpoint")
	// ErrNoEndpoint is returned by Unbind and Disconnect for an endpoint that is not in use:
	// libzmq's ENOENT.
	ErrNoEndpoint error = &sentinel{"zmtp: no such endpoint", os.ErrNotExist}
	// ErrNoPeer is returned for a message to a routing id that no peer has: libzmq's EHOSTUNREACH.
	ErrNoPeer error = &sentinel{"zmtp: no peer has this routing id", syscall.EHOSTUNREACH}
	// ErrState is returned by a Req or Rep that must receive before it may send again, or send
	// before it may receive again: libzmq's EFSM.
	ErrState = errors.New("zmtp: a REQ or REP must send and receive in turn")
	// ErrMessage is wrapped by the errors about a message that the socket cannot send, since it has
	// no parts, or others than the socket type allows.
	ErrMessage error = &sentinel{"zmtp: message has no parts, or not the parts that the socket " +
		"type needs", syscall.EINVAL}
)

type sentinel struct {
	text string
	is   error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.is }

// LingerError is what Shutdown returns when its context ends before everything was delivered.
type LingerError struct {
	// messages that were dropped for that, in either direction; Stats counts them by reason
	Dropped uint64
	// bytes on the wire that were written and that the hosts of the peers have not acknowledged
	Unacknowledged int
	Err            error // the cause of the context's end
}

// Error implements error.
func (e *LingerError) Error() string {
	return fmt.Sprintf("zmtp: shutdown ended early, %d messages dropped, %d bytes not "+
		"acknowledged: %v", e.Dropped, e.Unacknowledged, e.Err)
}

// Unwrap returns Err.
func (e *LingerError) Unwrap() error { return e.Err }

// PeerClosedError says why the connection to a peer ended or never came up.
type PeerClosedError struct {
	Reason Reason
	Stage  string // "connect", "handshake" or "traffic"
	Err    error  // the cause, may be nil
}

// Error implements error.
func (e *PeerClosedError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("zmtp: %s: %v", e.Stage, e.Reason)
	}
	return fmt.Sprintf("zmtp: %s: %v: %v", e.Stage, e.Reason, e.Err)
}

// Unwrap returns Err.
func (e *PeerClosedError) Unwrap() error { return e.Err }

// reasonOf finds the reason in an error of a codec or of the network.
func reasonOf(err error) Reason {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*PeerClosedError](err); ok {
		return e.Reason
	}
	return wire.ConnectionLost
}
