package wire

import "fmt"

// Reason says why a connection was refused or closed. Metrics, the log and errors use the same
// names.
type Reason uint8

// The reasons. Those up to PeerError are protocol errors, after which a connecting side does not
// try again. Neither does libzmq.
const (
	ReasonNone           Reason = iota
	UnsupportedVersion          // the peer speaks ZMTP 1.0 or 2.0
	MechanismMismatch           // the peer's security mechanism is not ours
	UnexpectedCommand           // a command that is not allowed in this state of the handshake
	MalformedCommand            // a command without a name, or with a name that overruns it
	MalformedReady              // READY whose metadata cannot be parsed
	MalformedError              // ERROR whose reason overruns it
	MalformedPing               // PING with less than two octets of TTL
	MalformedFrame              // reserved flag bits, COMMAND with MORE, or a size above 2^63-1
	MessageTooLarge             // a message above MaxMessageSize
	TooManyParts                // a message with more parts than MaxParts
	CommandTooLarge             // a command or handshake frame above its fixed limit
	SocketTypeMismatch          // the two socket types cannot talk to each other
	BadIdentity                 // an identity above 255 octets or beginning with a zero octet
	TopicTooLong                // a subscription above the limit for topics
	TooManySubscriptions        // more subscriptions than one peer may have
	MalformedHello              // HELLO of the wrong size, version or form
	MalformedWelcome            // likewise WELCOME
	MalformedInitiate           // likewise INITIATE
	MalformedMessage            // a protected frame that is too short
	MalformedGroup              // a message or command for DISH or RADIO without a proper group
	Cryptographic               // a box that does not open, or an invalid key
	KeyExchange                 // a vouch for other keys than those of the connection
	InvalidSequence             // a nonce that is not above the one before
	PeerError                   // the peer sent an ERROR command
	NotZMTP                     // the first bytes are no ZMTP signature: another protocol
	AuthRefused                 // the authenticator did not let the client in
	AuthUnavailable             // there was no authenticator, or it gave no usable answer
	HandshakeTimeout            // the handshake was not complete in time
	TooManyConnections          // the socket, or the peer's address, is at its limit of connections
	HandshakeEvicted            // too many handshakes were pending, and this one was the oldest
	// the peer's address asked for too many handshakes, or too many waited
	HandshakeLimited
	HeartbeatTimeout    // nothing came after our PING
	TTLExpired          // nothing came within the TTL of the peer's PING
	PeerClosed          // the peer closed the connection
	ConnectionLost      // the connection broke: reset, unreachable, time-out of the kernel
	SlowConsumer        // the peer did not read, and the policy is to disconnect
	SubscriptionBacklog // the peer did not read its subscriptions
	MemoryExhausted     // the peer held most when the memory budget was exhausted
	Rejected            // the socket accepts no further peer of this kind
	LocalClose          // this side closed: Shutdown, Unbind or Disconnect
	numReasons
)

var reasonNames = [numReasons]string{
	"none", "unsupported_version", "mechanism_mismatch", "unexpected_command", "malformed_command",
	"malformed_ready", "malformed_error", "malformed_ping", "malformed_frame", "message_too_large",
	"too_many_parts", "command_too_large", "socket_type_mismatch", "bad_identity", "topic_too_long",
	"too_many_subscriptions",
	"malformed_hello", "malformed_welcome", "malformed_initiate", "malformed_message",
	"malformed_group",
	"cryptographic",
	"key_exchange", "invalid_sequence", "peer_error", "not_zmtp", "auth_refused",
	"auth_unavailable",
	"handshake_timeout", "too_many_connections", "handshake_evicted", "handshake_limited",
	"heartbeat_timeout", "ttl_expired",
	"peer_closed", "connection_lost", "slow_consumer", "subscription_backlog", "memory_exhausted",
	"rejected", "local_close",
}

// String returns the reason in the form used as metric label.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Reasons returns all reasons but ReasonNone.
func Reasons() []Reason {
	all := make([]Reason, 0, numReasons-1)
	for r := ReasonNone + 1; r < numReasons; r++ {
		all = append(all, r)
	}
	return all
}

// Protocol reports whether r is a protocol error. A connecting side then gives the endpoint up.
func (r Reason) Protocol() bool { return r > ReasonNone && r <= PeerError }

// Error is a violation of the protocol by the peer.
type Error struct {
	Reason Reason
	Detail string // what was wrong, without secrets
	Status int    // of PeerError and AuthRefused: the ZAP status 300, 400 or 500, else 0
}

// Error implements error.
func (e *Error) Error() string { return "zmtp: " + e.Reason.String() + ": " + e.Detail }

// Errorf makes an *Error.
func Errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
