package forwarder

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"zmtpd/zmtp"
)

// Config is how a Forwarder behaves. The zero value works: Zeek's limits and the policy Adaptive.
type Config struct {
	// XSub and XPub configure the two sides. XPub.SendHWM and XPub.SendBytes are what may wait for one subscriber;
	// those of XSub bound the messages, not the subscriptions, that go up to a publisher. RecvHWM and RecvBytes have
	// no effect, as nothing is queued on the way in. Defaults: those of zmtp.Config.
	XSub, XPub zmtp.Config
	// Overload is what happens when a subscriber's queue is full. Default Adaptive.
	Overload Policy
	// WaitShare is the share of any 5 s for which all slow subscribers together may hold up one publisher,
	// with the policy Adaptive. A subscriber holds a publisher up while its queue is full and its
	// connection takes nothing. Negative: none. Default 0.1.
	WaitShare float64
	// Permit says what a peer may do, once when its connection is there; with an error the connection is closed. It must
	// not block. Default: everybody may do everything.
	Permit func(*zmtp.Peer) (Permissions, error)
	// Tap, if it is set, gives others a copy of what publishers send. Default: nobody.
	Tap *Tap
	// Logger gets what an operator should know, with the attributes peer, client, node and dropped, and is the Logger of XSub
	// and XPub if they have none. Default: nothing is logged.
	Logger *slog.Logger
}

// DefaultWaitShare is the default of Config.WaitShare.
const DefaultWaitShare = 0.1

// withDefaults returns a copy in which every field of this package has its effective value.
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

// Policy is what happens when a subscriber's queue is full.
type Policy uint8

// The policies.
const (
	// Adaptive: publishers wait for the subscriber, but no longer than Config.WaitShare allows all slow
	// subscribers together. Beyond that it alone loses messages, the newest, until it has caught up.
	Adaptive Policy = iota
	// Block: publishers wait, however long. One stopped subscriber stops all that it subscribed. It is what Zeek's
	// own broker does (ZMQ_XPUB_NODROP).
	Block
	// Drop: the subscriber loses the newest messages at once.
	Drop
	// Disconnect: the subscriber's connection is closed with the reason wire.SlowConsumer.
	Disconnect
)

var policyNames = []string{"adaptive", "block", "drop", "disconnect"}

// String returns the policy in the form used on the command line.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy_%d", uint8(p))
}

// MarshalText is String for encoders.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText sets p to the policy that String names so.
func (p *Policy) UnmarshalText(text []byte) error {
	i := slices.Index(policyNames, string(text))
	if i < 0 {
		return fmt.Errorf("forwarder: overload policy %q is not one of %s", text, strings.Join(policyNames, ", "))
	}
	*p = Policy(i)
	return nil
}
