package capture

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Kind is the kind of an Event.
type Kind uint8

// The kinds of events. The first event of a session is Opened and the last one Closed.
const (
	Opened   Kind = iota + 1 // a TCP connection turned out to be ZMTP
	Greeting                 // From sent its greeting
	Upgrade                  // over WebSocket, instead: From sent its HTTP request or response
	Metadata                 // From sent its metadata: READY, or INITIATE of PLAIN and CURVE
	Message                  // From sent a message
	Command                  // From sent any other command
	// From sent a MESSAGE of CURVE whose key is not known
	Encrypted
	Gap     // bytes of one direction are missing: Missing of them
	Resumed // the boundaries of frames were found again behind a gap, after Missing bytes
	// one direction, or the session, breaks ZMTP or cannot be decoded
	Problem
	Closed // the session ended, or the capture did
	numKinds
)

var kindNames = [numKinds]string{"none", "opened", "greeting", "upgrade", "metadata", "message",
	"command",
	"encrypted", "gap", "resumed", "problem", "closed"}

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// CmdClose is the name of the Command event for the close frame of WebSocket. Its data are a code
// of two bytes and a text (RFC 6455, section 7.1.5), or nothing. The control frames ping and pong
// are the commands PING and PONG.
const CmdClose = "CLOSE"

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

	Began time.Time // of its first packet

	// What is known so far.
	FromClient, FromServer Peer
}

// Peer is what is known of one side of a session.
type Peer struct {
	Type  wire.SocketType // empty until it is known
	Key   curve.Key       // the long-term public key of a CURVE client, if it could be decrypted
	Bytes uint64          // of TCP, retransmissions included

	Packets                           uint64 // sent
	Retransmitted, RetransmittedBytes uint64 // segments that were seen before, and their bytes
	OutOfOrder                        uint64 // segments that came after later ones

	// ZeroWindows is how often it closed its receive window: it did not read as fast as it was sent
	// to.
	ZeroWindows uint64
	ZeroTime    time.Duration // how long the window was closed, without the time since ZeroSince
	ZeroSince   time.Time     // since when it is closed; zero if it is open
	FirstZero   time.Time     // when it was closed first
}

func (s *Session) side(from Side) *Peer {
	if from == Client {
		return &s.FromClient
	}
	return &s.FromServer
}

// Peer returns what is known of a side, Client or Server.
func (s *Session) Peer(side Side) Peer { return *s.side(side) }

// CloseReason is the way in which a session ended.
type CloseReason uint8

// The reasons.
const (
	NotClosed  CloseReason = iota
	Finished               // both sides sent FIN
	Reset                  // one side sent RST
	PortReused             // another connection with the same endpoints began
	Evicted                // too many sessions were open, and this one was idle for longest
	Idle                   // nothing was sent for Options.MaxIdle
	EndOfFile              // it was open when the file ended
	numCloseReasons
)

var closeReasonNames = [numCloseReasons]string{"none", "finished", "reset", "port_reused",
	"evicted", "idle", "end_of_file"}

// String returns the reason in the form used as metric label.
func (r CloseReason) String() string {
	if r < numCloseReasons {
		return closeReasonNames[r]
	}
	return fmt.Sprintf("close_reason_%d", uint8(r))
}

// Event is something that happened in a session. Message, Data, and what Metadata refers to are
// valid until the loop goes on; Clone makes a copy that lasts.
type Event struct {
	Kind    Kind
	From    Side        // the sender; NoSide for Opened, Closed, and a Problem of the whole session
	Closed  CloseReason // of Closed
	Time    time.Time   // of the packet that completed it, or of the last packet of the file
	Session *Session    // never nil

	Greeting wire.Greeting // of Greeting; one of ZMTP 1.0 or 2.0 has a version only
	Metadata wire.Metadata // of Metadata, as it was sent, unchecked
	Message  zmtp.Message  // of Message
	// of Command: its name. Of Upgrade: the subprotocols of RFC 45 that the client offers, or the
	// one that the server chose. Up to 255 arbitrary bytes
	Name string
	// of Command: the bytes behind the name. In PLAIN's HELLO they are user and password
	Data []byte
	Size int // of Encrypted: the size of the frame inside, in bytes
	// of Gap: the bytes that were not captured. Of Resumed: the bytes that were skipped
	Missing int64
	// of Problem: a *wire.Error for a violation of ZMTP, or one of the errors below, wrapped. Of
	// Gap: ErrGap or ErrSnapLen. Of Closed: why the handshake is not complete
	Err error
}

// Clone returns a copy that refers to no memory of the Reader.
func (e Event) Clone() Event {
	if e.Kind == Message {
		e.Message, _ = zmtp.ParseMessage(bytes.Clone(e.Message.Wire()))
	}
	e.Data = bytes.Clone(e.Data)
	return e
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

// Errors of events that are not violations of ZMTP by a peer.
var (
	ErrGap     = errors.New("capture: packets are missing")
	ErrSnapLen = errors.New("capture: packets are incomplete; capture with a larger snapshot " +
		"length")
	ErrHandshake = errors.New("capture: the session ended before its handshake was complete")
	ErrMechanism = errors.New("capture: unknown security mechanism")
	ErrMemory    = errors.New("capture: too much unfinished data is held; raise MaxBuffered")
	ErrKey       = errors.New("capture: the key in the key log does not fit this session")
)
