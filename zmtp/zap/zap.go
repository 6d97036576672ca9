package zap

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Version is the version of the protocol in every request and reply.
const Version = "1.0"

// The status codes of a reply. libzmq's clients do not try again after an ERROR, but do when the
// connection is closed.
const (
	StatusOK        = 200 // the client is accepted
	StatusTemporary = 300 // refused for now: the connection is closed
	StatusDenied    = 400 // denied: the client gets ERROR 400
	StatusFailed    = 500 // the authenticator failed: the client gets ERROR 500
)

// Request asks whether a client may connect.
type Request struct {
	ID          string
	Domain      string
	Address     string // IP address of the client, without a port
	Identity    []byte // routing id of the asking socket
	Mechanism   string
	Credentials [][]byte // NULL: none; PLAIN: user, password; CURVE: the client's public key
}

// Reply is the answer to a Request.
type Reply struct {
	ID       string
	Status   int    // one of the status codes
	Text     string // reason for the log; at most 255 bytes are sent
	UserID   string // name of the client, for the application
	Metadata []byte // properties for the application, encoded as in READY
}

// Handler decides about clients. It is called once for each handshake, from several goroutines at a
// time. It may block until ctx ends. An error has the effect of StatusFailed.
type Handler interface {
	Authenticate(ctx context.Context, req *Request) (Reply, error)
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, req *Request) (Reply, error)

// Authenticate calls f.
func (f HandlerFunc) Authenticate(ctx context.Context, req *Request) (Reply, error) {
	return f(ctx, req)
}

// Fault says what is wrong with a reply. The numbers are those of libzmq's
// ZMQ_PROTOCOL_ERROR_ZAP_*.
type Fault uint32

// The faults of a reply.
const (
	FaultUnspecified Fault = 0x20000000 + iota
	FaultMalformed
	FaultRequestID
	FaultVersion
	FaultStatus
	FaultMetadata
)

// Error reports that a request or reply breaks the protocol.
type Error struct {
	Fault  Fault
	Detail string
}

// Error returns the detail of e.
func (e *Error) Error() string { return "zap: " + e.Detail }

func faultf(f Fault, format string, args ...any) error {
	return &Error{f, fmt.Sprintf(format, args...)}
}

// Frames returns the request as frames. They refer to the request.
func (r *Request) Frames() [][]byte {
	f := [][]byte{
		[]byte(Version), []byte(r.ID), []byte(r.Domain), []byte(r.Address),
		r.Identity, []byte(r.Mechanism),
	}
	return append(f, r.Credentials...)
}

// ParseRequest parses the frames of a request. The result refers to them. The error is an *Error.
func ParseRequest(frames [][]byte) (Request, error) {
	if len(frames) < 6 {
		return Request{}, faultf(FaultMalformed, "%d frames of a request, want 6 and credentials",
			len(frames))
	}
	if string(frames[0]) != Version {
		return Request{}, faultf(FaultVersion, "the request has version %.16q, want %q", frames[0],
			Version)
	}
	return Request{
		ID: string(frames[1]), Domain: string(frames[2]), Address: string(frames[3]),
		Identity:  frames[4],
		Mechanism: string(frames[5]), Credentials: frames[6:],
	}, nil
}

// Frames returns the reply as frames. They refer to the reply.
func (r *Reply) Frames() [][]byte {
	text := r.Text[:min(len(r.Text), 255)]
	return [][]byte{
		[]byte(Version), []byte(r.ID), fmt.Appendf(nil, "%03d", r.Status), []byte(text),
		[]byte(r.UserID), r.Metadata,
	}
}

// ParseReply parses the frames of the reply to the request with the given id. The result refers to
// them. The error is an *Error.
func ParseReply(frames [][]byte, id string) (Reply, error) {
	if len(frames) != 6 {
		return Reply{}, faultf(FaultMalformed, "the reply has %d frames, want 6", len(frames))
	}
	if string(frames[0]) != Version {
		return Reply{}, faultf(FaultVersion, "the reply has version %.16q, want %q", frames[0],
			Version)
	}
	if string(frames[1]) != id {
		return Reply{}, faultf(FaultRequestID, "reply to request %.16q, want %.16q", frames[1],
			id)
	}
	r := Reply{ID: id, Text: string(frames[3]), UserID: string(frames[4]), Metadata: frames[5]}
	s := frames[2]
	if len(s) != 3 || s[0] < '2' || s[0] > '5' || s[1] != '0' || s[2] != '0' {
		return Reply{}, faultf(FaultStatus, "the status is %.16q, want 200, 300, 400 or 500", s)
	}
	r.Status = int(s[0]-'0') * 100
	return r, CheckMetadata(r.Metadata)
}

// CheckMetadata returns an *Error unless b consists of well-formed properties.
func CheckMetadata(b []byte) error {
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n+4 {
			return faultf(FaultMetadata, "a property name overruns the metadata")
		}
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return faultf(FaultMetadata, "a property value overruns the metadata")
		}
		b = b[size:]
	}
	return nil
}
