package zmtp

import (
	"context"
	"net"

	"zmtpd/zmtp/wire"
)

// Progress says how far a Mechanism's handshake has come.
type Progress uint8

// The stages of a handshake.
const (
	Continue  Progress = iota // more commands of the peer are needed
	NeedsAuth                 // the mechanism is an Authorizer, and Authorize comes next
	Ready                     // both sides are done
)

// Mechanism is the security handshake of one connection (RFC 37, "Security Handshake"), from the
// greeting to the last READY. It does no I/O and is used by one goroutine at a time.
type Mechanism interface {
	// Name is the mechanism's name in the greeting.
	Name() string
	// Handshake takes the body of the peer's next handshake frame, nil once at the start, and
	// appends the frames to send now to dst. It must not keep cmd.
	Handshake(dst, cmd []byte) ([]byte, Progress, error)
	// Metadata is what the peer said of itself, and what an authenticator added; valid when the
	// handshake is Ready.
	Metadata() Metadata
	// Traffic returns what protects the frames behind the handshake, nil and nil if nothing does;
	// valid when the handshake is Ready.
	Traffic() (Sealer, Opener)
}

// Authorizer is a Mechanism whose handshake has steps that wait: for an authenticator, or for its
// turn.
type Authorizer interface {
	Mechanism
	// Authorize is called each time Handshake said NeedsAuth. It appends the frames to send now to
	// dst, also when it returns an error: then they are sent before the connection is closed. It
	// may wait for ctx, which ends with the handshake's time. The peer may send nothing meanwhile.
	Authorize(ctx context.Context, dst []byte, peer net.Addr) ([]byte, Progress, error)
}

// FrameLimiter is a Mechanism that bounds the frames of its peer more tightly than the 64 KiB that
// every handshake allows.
type FrameLimiter interface {
	Mechanism
	// MaxFrame is how many bytes the body of the peer's next handshake frame may have. What is
	// longer is refused before it has arrived.
	MaxFrame() int64
}

// Sealer protects what is sent on one connection. It is used by the connection's write loop alone,
// so that the order of nonces is the order on the wire.
type Sealer interface {
	// Seal appends the protected form of frames, a sequence of whole frames as NULL would send
	// them, to dst: one frame for each, in the same order.
	Seal(dst, frames []byte) []byte
}

// Opener takes the protection off what is received on one connection. It is used by the
// connection's read loop alone.
type Opener interface {
	// Open appends to dst the frames, as NULL would have sent them, that were protected in stream,
	// a sequence of whole frames, in the same order. It appends at most len(stream) bytes. With an
	// error, what was before the fault is appended.
	Open(dst, stream []byte) ([]byte, error)
}

// ErrorFromCommand turns the data of an ERROR command that ended a handshake into an error, a
// [*wire.Error] in any case.
func ErrorFromCommand(data []byte) error {
	reason, err := wire.ParseError(data)
	if err != nil {
		return err
	}
	e := wire.Errorf(wire.PeerError, "the peer answered ERROR %q", reason)
	switch reason {
	case "300", "400", "500":
		e.Status = int(reason[0]-'0') * 100
	}
	return e
}
