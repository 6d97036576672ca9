package wire

import "fmt"

// Reason says why a connection was refused or closed. It is metric label, log attribute and error field at once.
type Reason uint8

// The reasons. Those up to PeerError are protocol errors: a connecting side does not try again after one of them, as
// libzmq does not.
const (
	ReasonNone           Reason = iota
	UnsupportedVersion          // the peer speaks ZMTP 1.0 or 2.0
	MechanismMismatch           // the peer's security mechanism is not ours
	UnexpectedCommand           // a command that the state of the handshake does not allow
	MalformedCommand            // a command without a name, or with a name that overruns it
	MalformedReady              // READY whose metadata cannot be parsed
	MalformedError              // ERROR whose reason overruns it
	MalformedPing               // PING with less than two octets of TTL
	MalformedFrame              // reserved flag bits, COMMAND together with MORE, a size above 2^63-1
	MessageTooLarge             // a message above MaxMessageSize
	TooManyParts                // a message with more parts than MaxParts
	CommandTooLarge             // a command or handshake frame above its fixed bound
	SocketTypeMismatch          // the two socket types do not fit
	BadIdentity                 // an identity above 255 octets or beginning with a zero octet
	TopicTooLong                // a subscription above the limit for topics
	TooManySubscriptions        // a peer above its limit of subscriptions
	MalformedHello              // HELLO of the wrong size, version or form
	MalformedWelcome            // likewise WELCOME
	MalformedInitiate           // likewise INITIATE
	MalformedMessage            // a protected frame that is too short
	Cryptographic               // a box that does not open, or a key that is none
	KeyExchange                 // a vouch for other keys than those of the connection
	InvalidSequence             // a nonce that does not grow
	PeerError                   // the peer sent an ERROR command
	NotZMTP                     // the first bytes are no ZMTP signature: some other server, which may go away
	AuthRefused                 // the authenticator did not let the client in
	AuthUnavailable             // there was no authenticator, or it gave no usable answer
	HandshakeTimeout            // the handshake was not complete in time
	TooManyConnections          // the socket, or the peer's address, has as many connections as it may have
	HandshakeEvicted            // too many handshakes were pending, this was the oldest
	HandshakeLimited            // the peer's address asked for too many handshakes, or too many waited
	HeartbeatTimeout            // nothing came after our PING
	TTLExpired                  // nothing came within the TTL of the peer's PING
	PeerClosed                  // the peer closed the connection
	ConnectionLost              // the connection broke: reset, unreachable, time-out of the kernel
	SlowConsumer                // the peer did not read, and the policy is to disconnect
	SubscriptionBacklog         // the peer did not read its subscriptions
	MemoryExhausted             // the peer held most when the process ran out of its memory budget
	Rejected                    // the socket accepts no further peer of this kind
	LocalClose                  // this side closed: Shutdown, Unbind or Disconnect
	numReasons
)

var reasonNames = [numReasons]string{
	"none", "unsupported_version", "mechanism_mismatch", "unexpected_command", "malformed_command",
	"malformed_ready", "malformed_error", "malformed_ping", "malformed_frame", "message_too_large",
	"too_many_parts", "command_too_large", "socket_type_mismatch", "bad_identity", "topic_too_long", "too_many_subscriptions",
	"malformed_hello", "malformed_welcome", "malformed_initiate", "malformed_message", "cryptographic",
	"key_exchange", "invalid_sequence", "peer_error", "not_zmtp", "auth_refused", "auth_unavailable",
	"handshake_timeout", "too_many_connections", "handshake_evicted", "handshake_limited", "heartbeat_timeout", "ttl_expired",
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

// Protocol reports whether r is a protocol error, after which a connecting side gives the endpoint up.
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
