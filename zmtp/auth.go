package zmtp

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// Auth is how a mechanism asks who may come in.
type Auth struct {
	// Handler decides. Nil refuses everybody, unless Open is set.
	Handler zap.Handler
	// Open lets everybody in when there is no Handler, as libzmq does with CURVE. Default false.
	Open bool
	// Domain is passed on to the Handler.
	Domain string
}

// Ask asks about one client, and returns what the handler wants the application to know of it. If
// the client may not come in, the error says why and status is what it has to be told in an ERROR
// command: "400", "500", or nothing, when it is only hung up on.
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
		// The client is told nothing: it tries again, and the authenticator may be back then.
		return nil, "", errors.Join(wire.Errorf(wire.AuthUnavailable, "the authenticator failed"),
			err)
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
	return nil, status, e
}

// PropUserID is the property with the user id of an authenticated peer.
const PropUserID = "User-Id"

// PeerMetadata parses what a peer says of itself. It cannot say that it is authenticated as
// somebody: a User-Id among it is left out.
func PeerMetadata(b []byte) (Metadata, error) {
	m, err := wire.ParseMetadata(b)
	return slices.DeleteFunc(m, func(p Property) bool {
		return strings.EqualFold(p.Name,
			PropUserID)
	}), err
}

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

// zapAddress is the client's address as RFC 27 wants it, the IP address without the port.
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
