package zmtp

import (
	"context"
	"net"

	"zmtpd/zmtp/wire"
)

// Null is the NULL mechanism (RFC 37, "The NULL Security Mechanism") with an authenticator, which
// decides by the address of a peer. Without an authenticator, leave Config.Mechanism nil.
type Null struct {
	Auth
}

// Mechanism implements Config.Mechanism.
func (n *Null) Mechanism(local Metadata) Mechanism {
	if n.Handler == nil && n.Open {
		return newNull(local) // READY need not wait for anything
	}
	return &null{local: local, auth: &n.Auth}
}

func newNull(local Metadata) Mechanism { return &null{local: local} }

// null is one connection's NULL handshake.
type null struct {
	local Metadata
	auth  *Auth // nil: all peers are admitted
	peer  Metadata
	zap   Metadata
}

func (*null) Name() string { return "NULL" }

func (m *null) Metadata() Metadata { return append(m.zap, m.peer...) }

func (*null) Traffic() (Sealer, Opener) { return nil, nil }

// Handshake sends READY at once, on both sides, as libzmq does; in RFC 37 the client goes first.
// With an authenticator it sends READY when the authenticator has admitted the peer.
func (m *null) Handshake(dst, cmd []byte) ([]byte, Progress, error) {
	if cmd == nil {
		if m.auth != nil {
			return dst, ProgressNeedsAuth, nil
		}
		return m.ready(dst), ProgressContinue, nil
	}
	name, data, err := wire.ParseCommand(cmd)
	if err != nil {
		return dst, ProgressContinue, wire.Errorf(wire.UnexpectedCommand,
			"no command in place of READY: %v", err)
	}
	switch string(name) {
	case wire.CmdReady:
		m.peer, err = wire.ParsePeerMetadata(data)
		return dst, ProgressReady, err
	case wire.CmdError:
		return dst, ProgressContinue, wire.ErrorFromCommand(data)
	}
	return dst, ProgressContinue, wire.Errorf(wire.UnexpectedCommand, "%q in place of READY", name)
}

func (m *null) ready(dst []byte) []byte {
	return wire.AppendCommand(dst, wire.CmdReady, wire.AppendMetadata(nil, m.local))
}

// Authorize implements Authorizer.
func (m *null) Authorize(ctx context.Context, dst []byte, peer net.Addr) ([]byte, Progress, error) {
	zap, status, err := m.auth.Ask(ctx, peer, m.Name())
	if err != nil {
		if status != "" {
			dst = wire.AppendError(dst, status)
		}
		return dst, ProgressContinue, err
	}
	m.zap = zap
	return m.ready(dst), ProgressContinue, nil
}
