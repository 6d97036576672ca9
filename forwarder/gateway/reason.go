package gateway

import "fmt"

// Reason says why a client or something of a client was refused. It is the label in metrics and the
// attribute in the log.
type Reason uint8

// The reasons. The comment says what was refused: a connection, an event from the client, or an
// event for the client.
const (
	TooManyClients    Reason = iota // a connection: Config.MaxClients
	TooManyPerAddress               // a connection: Config.MaxClientsPerAddress
	BadHandshake                    // a connection: no WebSocket handshake
	Unauthorized                    // a connection: no known token or certificate
	BadOrigin                       // a connection: a browser that shows a page of another origin
	InvalidURI                      // a connection: another path, or a query
	InvalidAppName                  // a connection: X-Application-Name
	NoSubscriptions                 // a connection: the first message did not come in time
	BadSubscriptions                // the first message: not an array of strings
	TooManyTopics                   // the first message: too many subscriptions
	SubscribeDenied                 // the first message: a topic that the client may not subscribe
	NotAcknowledged                 // an event from a client whose first message was refused
	BadJSON                         // an event from a client: not a value in JSON
	NoTopic                         // an event from a client
	BadTopic                        // an event from a client: its topic is too long
	BadEvent                        // an event from a client: no Zeek node could read it
	BadSignature                    // an event from a client: not as Config.Signatures declares it
	PublishDenied                   // an event from a client: a topic that it may not publish
	MessageTooBig                   // a connection: a message above Config.MaxMessageSize
	ProtocolError                   // a connection: a violation of RFC 6455
	PingTimeout                     // a connection
	SlowClient                      // a connection: the policy Disconnect
	AccessChanged                   // a connection: its client was removed or changed
	MemoryExhausted                 // a connection: closed by the memory budget
	NotAnEvent                      // a message for clients that is no event
	QueueFull                       // an event for a client
	Backlog                         // an event for all clients: the gateway does not keep up
	Closing                         // an event for a client that is gone, or from one at the end
	numReasons
)

var reasonNames = [numReasons]string{
	"too_many_clients", "too_many_per_address", "bad_handshake", "unauthorized", "bad_origin",
	"invalid_uri", "invalid_application_name", "no_subscriptions", "bad_subscriptions",
	"too_many_topics", "subscribe_denied", "not_acknowledged", "bad_json", "no_topic", "bad_topic",
	"bad_event", "bad_signature", "publish_denied", "message_too_big", "protocol_error",
	"ping_timeout", "slow_client", "access_changed", "memory_exhausted", "not_an_event",
	"queue_full", "backlog", "closing",
}

func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// MarshalText returns String.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
