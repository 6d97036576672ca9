package zmtp

import (
	"context"
	"errors"
	"net"
	"strconv"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// Auth is the authenticator of a mechanism (ZAP, RFC 27).
type Auth struct {
	// Handler decides about each client. Nil refuses all clients, unless Open is set.
	Handler zap.Handler
	// Open admits all clients when there is no Handler, as libzmq does with CURVE. Default false.
	Open bool
	// Domain is the ZAP domain in requests to the Handler.
	Domain string
	// HandlerLogs tells that the Handler logs the clients that it refuses, and its own failures.
	// The socket then logs them at debug level only. Default false.
	HandlerLogs bool
}

// loggedError is an error of a Handler that has logged it.
type loggedError struct{ error }

func (e *loggedError) Unwrap() error { return e.error }

// handlerError returns err, which the Handler gave as its answer.
func (a *Auth) handlerError(err error) error {
	if a.HandlerLogs {
		return &loggedError{err}
	}
	return err
}

// Ask asks the handler about one client, and returns the metadata that the handler gives the
// client. If the client is refused, err is the reason, and status is the text of the ERROR command
// for the client: "400", "500", or empty, when the connection is closed without one. Ask waits for
// the handler, which gets ctx.
func (a *Auth) Ask(ctx context.Context, peer net.Addr, mechanism string,
	credentials ...[]byte) (m Metadata, status string, err error) {
	if a.Handler == nil {
		if a.Open {
			return nil, "", nil
		}
		return nil, "", wire.Errorf(wire.AuthUnavailable,
			"no authenticator is set, and Open is not")
	}
	req := zap.Request{
		ID: "1", Domain: a.Domain, Address: zapAddress(peer), Mechanism: mechanism,
		Credentials: credentials,
	}
	reply, err := a.Handler.Authenticate(ctx, &req)
	switch {
	case err != nil:
		// No ERROR: the client tries again, and the authenticator may be back by then.
		return nil, "", a.handlerError(errors.Join(
			wire.Errorf(wire.AuthUnavailable, "the authenticator failed"), err))
	case reply.Status == zap.StatusOK:
		m, err = replyMetadata(&reply)
		return m, "", err
	}
	e := wire.Errorf(wire.AuthRefused, "status %d: %s", reply.Status, reply.Text)
	e.Status = reply.Status
	switch reply.Status {
	case zap.StatusDenied, zap.StatusFailed:
		status = strconv.Itoa(reply.Status)
	case zap.StatusTemporary:
	default:
		e.Reason, e.Status = wire.AuthUnavailable, 0
	}
	return nil, status, a.handlerError(e)
}

// PropUserID is the property with the user id of an authenticated peer.
const PropUserID = wire.PropUserID

func replyMetadata(r *zap.Reply) (Metadata, error) {
	var m Metadata
	if r.UserID != "" {
		m = append(m, Property{Name: PropUserID, Value: []byte(r.UserID)})
	}
	more, err := wire.ParseMetadata(r.Metadata)
	if err != nil {
		return nil, errors.Join(wire.Errorf(wire.AuthUnavailable,
			"the reply's metadata cannot be parsed"),
			&zap.Error{Fault: zap.FaultMetadata, Detail: err.Error()})
	}
	return append(m, more...), nil
}

// zapAddress returns the address of a client in the form of RFC 27: the IP address without the
// port.
func zapAddress(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
