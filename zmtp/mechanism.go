package zmtp

import (
	"context"
	"net"
)

// Progress is the state of a [Mechanism]'s handshake.
type Progress uint8

// The states of a handshake.
const (
	ProgressContinue  Progress = iota // more commands of the peer are needed
	ProgressNeedsAuth                 // the mechanism is an Authorizer, and Authorize comes next
	ProgressReady                     // the handshake is complete
)

// Mechanism is the security handshake of one connection (RFC 37, "Security Handshake"), from the
// greeting to the last READY. It does no I/O and is used by one goroutine at a time. Programs use
// [Null], [PlainServer], [PlainClient], or those of package zmtpd/curve.
type Mechanism interface {
	// Name is the mechanism's name in the greeting.
	Name() string
	// Handshake takes the body of the peer's next handshake frame, nil once at the start, and
	// appends the frames to send now to dst. It must not keep cmd.
	Handshake(dst, cmd []byte) ([]byte, Progress, error)
	// Metadata returns the metadata that the peer sent and an authenticator added. It is valid when
	// the handshake is complete.
	Metadata() Metadata
	// Traffic returns the protection of the frames behind the handshake, nil and nil if there is
	// none. It is valid when the handshake is complete.
	Traffic() (Sealer, Opener)
}

// Authorizer is a [Mechanism] whose handshake has steps that wait, for an authenticator or for a
// limit on their rate.
type Authorizer interface {
	Mechanism
	// Authorize is called each time Handshake has returned ProgressNeedsAuth. It appends the frames
	// to send now to dst, also when it returns an error: then they are sent before the connection
	// is closed. It may wait until ctx ends, which is when the time of the handshake is over or the
	// peer closes. The peer must not send anything meanwhile.
	Authorize(ctx context.Context, dst []byte, peer net.Addr) ([]byte, Progress, error)
}

// FrameLimiter is a [Mechanism] that bounds the frames of its peer more tightly than the 64 KiB
// that every handshake allows.
type FrameLimiter interface {
	Mechanism
	// MaxFrame returns how many bytes the body of the peer's next handshake frame may have. A
	// longer frame is refused before it has arrived.
	MaxFrame() int64
}

// Sealer is the part of a [Mechanism] that protects the frames sent on one connection. Only the
// write loop of the connection uses it, so the order of nonces is the order on the wire.
type Sealer interface {
	// Seal appends the protected form of frames, a sequence of whole frames as NULL would send
	// them, to dst: one frame for each, in the same order.
	Seal(dst, frames []byte) []byte
}

// Opener is the part of a [Mechanism] that removes the protection from the frames received on one
// connection. Only the read loop of the connection uses it.
type Opener interface {
	// Open appends to dst the frames, as NULL would have sent them, of which stream is the
	// protected form: a sequence of whole frames, in the same order. It appends at most len(stream)
	// bytes. When it returns an error, it has appended the frames before the fault.
	Open(dst, stream []byte) ([]byte, error)
}
