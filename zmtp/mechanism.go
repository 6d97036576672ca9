package zmtp

import (
	"zmtpd/zmtp/wire"
)

// Progress says how far a Mechanism's handshake has come.
type Progress uint8

// The stages of a handshake.
const (
	Continue Progress = iota // more commands of the peer are needed
	Ready                    // both sides are done
)

// Mechanism is the security handshake of one connection (RFC 37, "Security Handshake"), from the greeting to the last
// READY. It does no I/O and is used by one goroutine at a time.
type Mechanism interface {
	// Name is the mechanism's name in the greeting.
	Name() string
	// Handshake takes the body of the peer's next handshake frame, nil once at the start, and appends the frames to
	// send now to dst. It must not keep cmd.
	Handshake(dst, cmd []byte) ([]byte, Progress, error)
	// Metadata is what the peer said of itself; valid when the handshake is Ready.
	Metadata() wire.Metadata
}

// null is the NULL mechanism (RFC 37, "The NULL Security Mechanism").
type null struct {
	local wire.Metadata
	peer  wire.Metadata
}

func newNull(local wire.Metadata) Mechanism { return &null{local: local} }

func (*null) Name() string { return "NULL" }

func (m *null) Metadata() wire.Metadata { return m.peer }

// Handshake sends READY at once, on both sides, as libzmq does; RFC 37 lets the client go first.
func (m *null) Handshake(dst, cmd []byte) ([]byte, Progress, error) {
	if cmd == nil {
		return wire.AppendCommand(dst, wire.CmdReady, wire.AppendMetadata(nil, m.local)), Continue, nil
	}
	name, data, err := wire.ParseCommand(cmd)
	if err != nil {
		return dst, Continue, err
	}
	switch string(name) {
	case wire.CmdReady:
		m.peer, err = wire.ParseMetadata(data)
		return dst, Ready, err
	case wire.CmdError:
		return dst, Continue, peerError(data)
	}
	return dst, Continue, wire.Errorf(wire.UnexpectedCommand, "%q in place of READY", name)
}

// peerError turns the data of an ERROR command into an error.
func peerError(data []byte) error {
	reason, err := wire.ParseError(data)
	if err != nil {
		return err
	}
	return wire.Errorf(wire.PeerError, "the peer answered ERROR %q", reason)
}
