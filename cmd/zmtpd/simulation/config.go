package simulation

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"zmtpd/zmtp"
)

// Config describes a simulated cluster.
type Config struct {
	Workers, Proxies int // besides one manager
	Slow             int // of the workers: take ten events a second
	Dying            int // of the workers: one after the other dies and comes back

	Events, Logs float64 // events and log records a second, of all nodes together

	XSub, XPub string // endpoints of the broker's sockets of these types
	Push       string // endpoint of the logger
	Status     string // URL of the logger's /status; empty: what the logger received is not compared
	// Socket configures all sockets.
	Socket zmtp.Config
	// Watch is called with each socket of a node that has just come up. Default: with none.
	Watch func(*zmtp.Push)
	// Logger gets what the nodes report. Default: nothing is logged.
	Logger *slog.Logger
}

const (
	// maxNodes bounds the nodes of a simulation: each has three connections and some goroutines.
	maxNodes = 1000
	// lifetime is the time between two deaths of workers.
	lifetime = 2 * time.Second
	// calm is how long nothing more may arrive until what is missing counts as lost.
	calm = 5 * time.Second
	// startTime is the longest time until all nodes see each other.
	startTime = time.Minute
	// flushTime is the longest time to wait at the end until everything is sent.
	flushTime = time.Minute
)

// Check returns an error that says which value cannot be simulated.
func (c *Config) Check() error {
	switch {
	case c.Workers < 1:
		return errors.New("a cluster needs at least one worker")
	case c.Proxies < 0 || c.Slow < 0 || c.Dying < 0 || c.Events < 0 || c.Logs < 0:
		return errors.New("numbers and rates must not be negative")
	case c.Slow+c.Dying > c.Workers:
		return fmt.Errorf("%d slow and %d dying workers are more than all %d", c.Slow, c.Dying,
			c.Workers)
	case 1+c.Workers+c.Proxies > maxNodes:
		return fmt.Errorf("%d nodes are more than %d", 1+c.Workers+c.Proxies, maxNodes)
	}
	return nil
}
