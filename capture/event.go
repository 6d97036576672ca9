package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Kind is the kind of an Event.
type Kind uint8

// The kinds of events. The first event of a session is Opened and the last one Closed. There is one
// exception: a TCP connection whose beginning is missing may or may not be ZMTP, and has one
// Problem only.
const (
	Opened   Kind = iota + 1 // a TCP connection turned out to be ZMTP
	Greeting                 // From sent its greeting
	Metadata                 // From sent its metadata: READY, or INITIATE of PLAIN
	Message                  // From sent a message
	Command                  // From sent any other command
	// the rest of one direction or of the session cannot be decoded; at most one per side
	Problem
	Closed // the session ended, or the file did
	numKinds
)

var kindNames = [numKinds]string{"none", "opened", "greeting", "metadata", "message", "command",
	"problem", "closed"}

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// Side is one of the two ends of a session.
type Side uint8

// The sides of a session.
const (
	NoSide Side = iota
	Client      // sent the first SYN: the socket that connected
	Server      // the socket that is bound
)

// String returns "client", "server" or "none".
func (s Side) String() string {
	switch s {
	case Client:
		return "client"
	case Server:
		return "server"
	}
	return "none"
}

// Session identifies a session. All its events share one Session.
type Session struct {
	// counts all TCP connections, in the order of their first packets, from 1
	ID             uint64
	Client, Server netip.AddrPort // a guess if the beginning of the session is not in the file
}

// CloseReason is the way in which a session ended.
type CloseReason uint8

// The reasons.
const (
	NotClosed  CloseReason = iota
	Finished               // both sides sent FIN
	Reset                  // one side sent RST
	PortReused             // another connection with the same endpoints began
	Evicted                // too many sessions were open, and this one was idle for longest
	EndOfFile              // it was open when the file ended
	numCloseReasons
)

var closeReasonNames = [numCloseReasons]string{"none", "finished", "reset", "port_reused",
	"evicted", "end_of_file"}

// String returns the reason in the form used as metric label.
func (r CloseReason) String() string {
	if r < numCloseReasons {
		return closeReasonNames[r]
	}
	return fmt.Sprintf("close_reason_%d", uint8(r))
}

// Event is something that happened in a session. It owns its memory: it does not change when the
// Reader goes on, and does not keep buffers of the Reader alive.
type Event struct {
	Kind    Kind
	From    Side        // the sender; NoSide for Opened, Closed, and a Problem of the whole session
	Closed  CloseReason // of Closed
	Time    time.Time   // of the packet that completed it, or of the last packet of the file
	Session *Session    // never nil

	Greeting wire.Greeting // of Greeting
	Metadata wire.Metadata // of Metadata, as it was sent, unchecked
	Message  zmtp.Message  // of Message
	Name     string        // of Command: its name, of up to 255 arbitrary bytes
	// of Command: the bytes behind the name. In PLAIN's HELLO they are user and password
	Data []byte
	// of Problem: a *wire.Error for a violation of ZMTP, or one of the errors below, wrapped
	Err error
}

// Source returns the endpoint that sent it, or the zero AddrPort if From is NoSide.
func (e *Event) Source() netip.AddrPort { return e.endpoint(Client, Server) }

// To returns the endpoint to which it was sent, or the zero AddrPort if From is NoSide.
func (e *Event) To() netip.AddrPort { return e.endpoint(Server, Client) }

func (e *Event) endpoint(client, server Side) netip.AddrPort {
	switch e.From {
	case client:
		return e.Session.Client
	case server:
		return e.Session.Server
	}
	return netip.AddrPort{}
}

// Errors of a Problem that is not a violation of ZMTP by a peer.
var (
	ErrNoStart = errors.New("capture: the session began before the capture and cannot be decoded")
	ErrGap     = errors.New("capture: packets are missing")
	ErrSnapLen = errors.New("capture: packets are incomplete; capture with a larger snapshot " +
		"length")
	ErrEncrypted = errors.New("capture: the traffic is encrypted")
	ErrMechanism = errors.New("capture: unknown security mechanism")
	ErrMemory    = errors.New("capture: too much unfinished data is held; raise MaxBuffered")
)
