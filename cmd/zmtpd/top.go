package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/gdamore/tcell/v2"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/top"
)

type topCommand struct {
	Address  []string        `arg:"" optional:"" placeholder:"ADDRESS" help:"Address of --http of a daemon, as in 10.0.0.1:9321, or a URL. Default: 127.0.0.1:9321."`
	Once     bool            `help:"Print everything once and end: for scripts."`
	JSON     bool            `name:"json" help:"With --once: print one JSON object."`
	Interval daemon.Positive `default:"1s" help:"Time between two questions to the daemons. With --once, rates are those of one interval."`
	Timeout  daemon.Positive `default:"3s" help:"Longest time to wait for an answer."`
	Sort     string          `placeholder:"COLUMN" help:"Column by which to sort the tables that have it. Default: queue for nodes, the rate for others."`
	Reverse  bool            `help:"Sort in the reverse order."`
}

// Help is shown by zmtpd top --help.
func (topCommand) Help() string {
	return `Shows who is slow and what is lost, live, from /status of one or several daemons: the
nodes with their rates, queues and losses, the logs, the topics, WebSocket clients and key-value
stores. Tab shows the next table that has rows, < and > sort by another column, q quits, ? shows all
keys.

  zmtpd top
  zmtpd top 10.0.0.1:9321 10.0.0.2:9321
  zmtpd top --once --json | jq '.nodes[] | select(.slow)'

With --once, the exit status is 1 if a daemon does not answer.`
}

// Run shows the daemons.
func (c *topCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	if c.JSON && !c.Once {
		return daemon.Usagef("--json without --once: give both, or neither for the live view")
	}
	addresses := c.Address
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1:9321"}
	}
	poller, err := top.NewPoller(addresses, time.Duration(c.Timeout))
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	if c.Once {
		return c.once(ctx, poller, std.Out)
	}
	screen, err := tcell.NewScreen()
	if err != nil {
		return fmt.Errorf("the terminal cannot be used: %w; --once needs none", err)
	}
	return top.Watch(ctx, screen, poller, top.Options{Interval: time.Duration(c.Interval),
		Sort: c.Sort, Reverse: c.Reverse})
}

// once prints a snapshot. It asks twice, for the rates.
func (c *topCommand) once(ctx context.Context, p *top.Poller, out io.Writer) error {
	p.Poll(ctx)
	select {
	case <-time.After(time.Duration(c.Interval)):
	case <-ctx.Done():
		return nil
	}
	s := p.Poll(ctx)
	if c.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(s); err != nil {
			return err
		}
	} else {
		text, err := top.Text(s, c.Sort, c.Reverse)
		if err != nil {
			return &daemon.UsageError{Err: err}
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	for _, d := range s.Daemons {
		if d.Error != "" {
			return fmt.Errorf("%s: no answer: %s", d.Address, d.Error)
		}
	}
	return nil
}
