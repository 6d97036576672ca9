package gateway

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"zmtpd/zmtp/memory"
)

// Config configures a Gateway. The zero value works: no encryption, all clients may do everything.
type Config struct {
	// Version is what clients are told in place of Zeek's version. Default "zmtpd".
	Version string
	// Clients is the file of the clients that may connect, see [ReadClients]. It is read again when
	// it changes. Default: everybody may connect, and do everything.
	Clients string
	// Certificate and Key are files in PEM with the certificate chain of the server and its key.
	// They are read again when they change. Default: no TLS.
	Certificate, Key string
	// ClientCA is a file in PEM with the authorities whose certificates clients have to show. It
	// is read again when it changes. Default: clients need no certificate.
	ClientCA string
	// Signatures is a file with the declarations of events, see package signature. Events that it
	// does not declare, or whose arguments do not fit, are refused. It is read again when it
	// changes. Default: every event of the right structure is taken.
	Signatures string
	// Origins are patterns of the origins from which browsers may connect, beside the host of the
	// gateway itself, as in *.example.org. Clients that are not browsers send no origin.
	Origins []string

	// MaxClients and MaxClientsPerAddress limit the connections, in total and from one IPv4 address
	// or IPv6 /64. Negative: none. Defaults: 1000, half of MaxClients.
	MaxClients, MaxClientsPerAddress int
	// MaxMessageSize limits a message from a client, in bytes. Default 1 MiB.
	MaxMessageSize int64
	// Rate limits the messages of one client in a second, after a burst of as many. Beyond it the
	// client is not read. Negative: none. Default 1000.
	Rate int
	// QueueMessages and QueueBytes limit what waits for one client. Negative: none. Defaults: 1000,
	// 64 MiB.
	QueueMessages int
	QueueBytes    int64
	// Overload says what happens when the queue of a client is full. Default DropOldest.
	Overload Policy
	// WaitShare is the share of time for which all clients together may hold the others up, with
	// the policy Wait. Negative: none. Default 0.1.
	WaitShare float64
	// PingInterval is the time between two pings. A client that does not answer one before the
	// next is due is closed. Negative: none. Default 5 s, as in Zeek.
	PingInterval time.Duration
	// HandshakeTimeout is how long a client may take until its subscriptions are there. Default
	// 30 s.
	HandshakeTimeout time.Duration

	// Memory is the budget of the process. Default: no limit.
	Memory *memory.Budget
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// unlimited stands for no limit. It leaves room for arithmetic.
const unlimited = 1 << 40

func (c Config) withDefaults() Config {
	set(&c.Version, "zmtpd")
	limit(&c.MaxClients, 1000)
	limit(&c.MaxClientsPerAddress, max(c.MaxClients/2, 1))
	limit(&c.MaxMessageSize, 1<<20)
	limit(&c.Rate, 1000)
	limit(&c.QueueMessages, 1000)
	limit(&c.QueueBytes, 64<<20)
	set(&c.WaitShare, 0.1)
	c.WaitShare = max(c.WaitShare, 0)
	set(&c.PingInterval, 5*time.Second)
	set(&c.HandshakeTimeout, 30*time.Second)
	set(&c.Logger, slog.New(slog.DiscardHandler))
	return c
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// limit sets the default of a limit, and replaces a negative one.
func limit[T int | int64](v *T, value T) {
	set(v, value)
	if *v < 0 {
		*v = unlimited
	}
}

// Policy says what happens when the queue of a client is full.
type Policy uint8

// The policies.
const (
	// DropOldest: the oldest events in the queue make room.
	DropOldest Policy = iota
	// Wait: the events of all clients wait, for no longer than Config.WaitShare allows. Beyond
	// that, as DropOldest. Publishers do not wait.
	Wait
	// Disconnect: the client is closed.
	Disconnect
)

var policyNames = []string{"drop-oldest", "wait", "disconnect"}

// String returns the name of the policy on the command line.
func (p Policy) String() string { return policyNames[p] }

// MarshalText returns String.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText sets p to the policy with that name.
func (p *Policy) UnmarshalText(text []byte) error {
	i := slices.Index(policyNames, string(text))
	if i < 0 {
		return fmt.Errorf("gateway: policy %q is not one of %s", text,
			strings.Join(policyNames, ", "))
	}
	*p = Policy(i)
	return nil
}
