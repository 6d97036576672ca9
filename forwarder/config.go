package forwarder

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"zmtpd/zmtp"
)

// Config configures a Forwarder. The zero value works: Zeek's limits and the policy Adaptive.
type Config struct {
	// XSub and XPub configure the two sockets. XPub.SendHWM and XPub.SendBytes limit the queue of
	// each subscriber. XSub.SendHWM limits what subscribers send to a publisher; XSub.SendBytes
	// limits that, and the subscriptions that a publisher may leave unread before it is closed.
	// RecvHWM and RecvBytes have no effect: nothing is queued on the way in. Defaults: those of
	// zmtp.Config.
	XSub, XPub zmtp.Config
	// Overload says what happens when the queue of a subscriber is full. Default Adaptive.
	Overload Policy
	// WaitShare is the share of any 5 s for which all slow subscribers together may hold up a
	// publisher, with the policy Adaptive. A subscriber that takes 50 full queues a second or more
	// is not slow: it sets the pace of publishers that send as fast as they can. Negative: none.
	// Default 0.1.
	WaitShare float64
	// Permit returns what a peer may do. It is called once for each connection, and an error closes
	// the connection. It must not block. Default: every peer may do everything.
	Permit func(*zmtp.Peer) (Permissions, error)
	// Tap, if it is not nil, copies what publishers send. Default nil.
	Tap *Tap
	// Logger gets what an operator should know, with the attributes peer, client, node and dropped.
	// It is also the Logger of XSub and XPub if they have none. Default: nothing is logged.
	Logger *slog.Logger
}

// DefaultWaitShare is the default of Config.WaitShare.
const DefaultWaitShare = 0.1

// withDefaults returns a copy of c in which the fields of this package have their effective values.
func (c Config) withDefaults() Config {
	if c.WaitShare == 0 {
		c.WaitShare = DefaultWaitShare
	}
	c.WaitShare = max(c.WaitShare, 0)
	if c.XSub.Logger == nil {
		c.XSub.Logger = c.Logger
	}
	if c.XPub.Logger == nil {
		c.XPub.Logger = c.Logger
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Policy says what happens when the queue of a subscriber is full.
type Policy uint8

// The policies.
const (
	// Adaptive: publishers wait for the subscriber, but all slow subscribers together hold a
	// publisher up no longer than Config.WaitShare allows. Beyond that they alone lose messages,
	// the newest, each until it has caught up: until its queue has hardly been full for a second.
	// That time doubles, up to 32 s, with each relapse within a minute.
	Adaptive Policy = iota
	// Block: publishers wait without limit. One subscriber that stops holds up all publishers of
	// what it subscribed. This is what Zeek's own broker does (ZMQ_XPUB_NODROP).
	Block
	// Drop: the subscriber loses the newest messages at once.
	Drop
	// Disconnect: the connection of the subscriber is closed with the reason wire.SlowConsumer.
	Disconnect
)

var policyNames = []string{"adaptive", "block", "drop", "disconnect"}

// String returns the name of the policy on the command line.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy_%d", uint8(p))
}

// MarshalText returns String.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText sets p to the policy with that name.
func (p *Policy) UnmarshalText(text []byte) error {
	i := slices.Index(policyNames, string(text))
	if i < 0 {
		names := strings.Join(policyNames, ", ")
		return fmt.Errorf("forwarder: overload policy %q is not one of %s", text, names)
	}
	*p = Policy(i)
	return nil
}
