package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/event"
)

type eventsCommand struct {
	clusterToolFlags
	Topic  []string `sep:"none" placeholder:"PREFIX" help:"Prefix of the topics of the events (repeatable). Nodes send these events whether or not another node has subscribed them. Default: all."`
	Event  []string `sep:"none" placeholder:"PATTERN" help:"Names of the events to print, with * for any characters, as in Site::* (repeatable). Default: all."`
	Node   []string `sep:"none" placeholder:"NAME" help:"Name or id of the nodes whose events to print (repeatable). Default: all."`
	Format string   `enum:"text,json" default:"text" help:"Format of the output: text, or json for one object in each line."`
	Count  uint64   `placeholder:"N" help:"Stop after N events. Default: never."`
}

// Help is shown by zmtpd events --help.
func (eventsCommand) Help() string {
	return `Follows the events of a Zeek cluster, without being seen by its nodes. A line of text
has the time at which the event came, the name of the node, the topic, and the event with its
arguments:

  2026-11-30T15:00:00.000Z worker-1 site.blocks Site::block(10.0.0.1, Site::SCAN, 10m0s, {"a"})

Strings are in quotes, ints have a sign, doubles a point, - is an optional value that is not set.
JSON has the values without their types, and the id of the node. Events that the output does not
take in time are dropped, and counted at the end.`
}

// Validate is called by kong.
func (c *eventsCommand) Validate() error {
	for _, pattern := range c.Event {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("--event %q is no pattern: a bracket or backslash does not end",
				pattern)
		}
	}
	return nil
}

// Run prints events until it has printed Count, or until ctx ends.
func (c *eventsCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	node, err := c.join(cluster.Config{}, std.Err)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	printed := uint64(0)
	var failure error
	var line []byte
	node.HandleAll(func(_ context.Context, e cluster.Event) {
		if failure != nil || c.Count > 0 && printed == c.Count || !c.wants(e) {
			return
		}
		line = append(c.appendEvent(line[:0], e, time.Now()), '\n')
		if _, failure = std.Out.Write(line); failure != nil {
			stop(nil)
		}
		if printed++; printed == c.Count {
			stop(nil)
		}
	})
	if len(c.Topic) == 0 {
		c.Topic = []string{""}
	}
	for _, topic := range c.Topic {
		if err := node.Subscribe(topic); err != nil {
			leave(node, 0)
			return daemon.Usagef("--topic: %w", err)
		}
	}
	<-ctx.Done()
	err = leave(node, tool.DrainTime)
	c.report(std.Err, node.Stats())
	if failure != nil {
		return failure
	}
	return err
}

// wants reports whether an event is one that the flags ask for.
func (c *eventsCommand) wants(e cluster.Event) bool {
	named := func(pattern string) bool {
		ok, _ := path.Match(pattern, string(e.Name))
		return ok
	}
	from := func(node string) bool {
		return node == e.Node || node == cluster.NameInID(e.Node)
	}
	return (len(c.Event) == 0 || slices.ContainsFunc(c.Event, named)) &&
		(len(c.Node) == 0 || slices.ContainsFunc(c.Node, from))
}

// appendEvent appends an event in the format of the output.
func (c *eventsCommand) appendEvent(dst []byte, e cluster.Event, now time.Time) []byte {
	if c.Format == "text" {
		dst = now.AppendFormat(dst, timeFormat)
		dst = fmt.Appendf(dst, " %s %s %s(", printable(nodeName(e.Node)), printable(e.Topic),
			printable(string(e.Name)))
		first := true
		for arg := range e.Args.Elements() {
			if !first {
				dst = append(dst, ", "...)
			}
			first = false
			dst = event.AppendText(dst, arg)
		}
		return append(dst, ')')
	}
	text := func(name, value string) {
		dst = append(event.AppendJSONString(append(append(append(dst, '"'), name...), `":`...),
			value), ',')
	}
	dst = append(dst, '{')
	text("time", now.Format(timeFormat))
	if t, ok := e.NetworkTime(); ok {
		text("network_time", t.Format(time.RFC3339Nano))
	}
	text("node", cluster.NameInID(e.Node))
	text("id", e.Node)
	text("topic", e.Topic)
	text("event", string(e.Name))
	return append(event.AppendPlainJSON(append(dst, `"args":`...), e.Args), '}')
}

// report prints what was not printed.
func (c *eventsCommand) report(stderr io.Writer, st cluster.Stats) {
	bad := st.Dropped[cluster.BadParts] + st.Dropped[cluster.BadSerializer] +
		st.Dropped[cluster.BadEvent]
	if bad > 0 {
		fmt.Fprintf(stderr, "zmtpd: %d messages were not events of Zeek\n", bad)
	}
	if late := st.Dropped[cluster.QueueFull] + st.Dropped[cluster.AtEnd]; late > 0 {
		fmt.Fprintf(stderr, "zmtpd: %d events are missing, because the output did not keep up; "+
			"narrow --topic\n", late)
	}
}
