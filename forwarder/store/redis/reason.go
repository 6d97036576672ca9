package redis

import "fmt"

// Reason says why a client or a request of a client was refused. It is the label in metrics and the
// attribute in the log.
type Reason uint8

// The reasons. The comment says what was refused: a connection, which is closed, or a request,
// which is answered with an error.
const (
	TooManyClients    Reason = iota // a connection: Config.MaxClients
	TooManyPerAddress               // a connection: Config.MaxClientsPerAddress
	BadRequest                      // a connection: it does not speak the protocol
	TooBig                          // a connection: an argument, a request or a line is too long
	TooManyArguments                // a connection: Config.MaxArguments
	BadHandshake                    // a connection: no TLS handshake in time
	HTTPRequest                     // a connection: a browser that was made to send HTTP
	NotAuthenticated                // a request: the client has yet to authenticate
	Unauthorized                    // a request: wrong name or password
	GuessedTooOften                 // a connection: too many wrong passwords
	AuthTimeout                     // a connection: it did not authenticate in time
	Denied                          // a request: the client may not do that with this key
	UnknownCommand                  // a request
	NoMemory                        // a request: the answer or the transaction is too large
	SlowReader                      // a connection: it does not read its answers
	SlowSubscriber                  // a connection: it does not read what it has subscribed to
	MemoryExhausted                 // a connection: closed by the memory budget
	AccessChanged                   // a connection: its client was removed or changed
	StoreFailed                     // a request: the store could not carry it out
	numReasons
)

var reasonNames = [numReasons]string{
	"too_many_clients", "too_many_per_address", "bad_request", "too_big", "too_many_arguments",
	"bad_handshake", "http_request", "not_authenticated", "unauthorized", "guessed_too_often",
	"auth_timeout", "denied", "unknown_command", "no_memory", "slow_reader", "slow_subscriber",
	"memory_exhausted",
	"access_changed", "store_failed",
}

func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// MarshalText returns String.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
