package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/event"
)

type publishCommand struct {
	Event string   `arg:"" help:"Name of the event, as in Site::block."`
	Args  []string `arg:"" optional:"" sep:"none" help:"Arguments with their types, as in addr:10.0.0.1 or set[string]:a,b, or as broker-json-v1."`

	Topic      string          `placeholder:"TOPIC" help:"Topic to publish to, as in zeek.cluster.worker for all workers."`
	Node       string          `placeholder:"NAME" help:"Name of the node to publish to, instead of --topic."`
	Serializer string          `enum:"broker-bin-v1,broker-json-v1" default:"broker-bin-v1" help:"Format of events in the cluster (Cluster::event_serializer): broker-bin-v1 or broker-json-v1."`
	Wait       daemon.Positive `default:"10s" help:"Longest time to wait for the broker."`
	clusterToolFlags
}

// Help is shown by zmtpd publish --help.
func (publishCommand) Help() string {
	return `Publishes one event, for instance:

  zmtpd publish Site::block addr:10.0.0.1 interval:10m 'string:a text' --node manager

Types: bool:T, count:5, int:-5, double:0.5, string:text, enum:Notice::LOG, addr:10.0.0.1,
subnet:10.0.0.0/8, port:53/udp, time:2006-01-02T15:04:05Z (or in seconds since 1970),
interval:1m30s, none: for an optional value that is not set.
Containers: vector[count]:1,2   set[addr,port]:[10.0.0.1,53/udp]   table[string,count]:a=1,b=2
record[count,string,none]:1,a,   A container within another stands in brackets, and a text with
commas or brackets in quotes.
Zeek refuses an event whose arguments have other types than it declares.`
}

// Validate is called by kong.
func (c *publishCommand) Validate() error {
	switch {
	case c.Event == "": // --help
	case c.Topic == "" && c.Node == "":
		return errors.New("no destination: use --topic, as in --topic zeek.cluster.worker, " +
			"or --node")
	case c.Topic != "" && c.Node != "":
		return errors.New("--topic and --node: remove one of the two")
	}
	return nil
}

// Run publishes the event.
func (c *publishCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	args := make([]any, len(c.Args))
	for i, text := range c.Args {
		var err error
		if args[i], err = event.ParseArgument(text); err != nil {
			return daemon.Usagef("argument %d: %w", i+1, err)
		}
	}
	if _, err := event.AppendEvent(nil, c.Event, args); err != nil {
		return &daemon.UsageError{Err: err}
	}
	topic := c.Topic
	if c.Node != "" {
		topic = cluster.NodeTopic(c.Node)
	}
	config := cluster.Config{}
	if c.Serializer == cluster.JSON.String() {
		config.Format = cluster.JSON
	}
	node, err := c.join(config, std.Err)
	if err != nil {
		return err
	}
	wait := time.Duration(c.Wait)
	if err = c.publish(ctx, node, topic, args); ctx.Err() != nil && err != nil {
		err = errors.New("stopped before the event was published")
	}
	return errors.Join(err, leave(node, wait))
}

func (c *publishCommand) publish(ctx context.Context, node *cluster.Node, topic string,
	args []any) error {
	if err := c.ready(ctx, node, time.Duration(c.Wait)); err != nil {
		return err
	}
	before := node.Stats().XPub.Out.Messages
	if err := node.Publish(ctx, topic, c.Event, args...); err != nil {
		return err
	}
	if node.Stats().XPub.Out.Messages == before {
		return fmt.Errorf("nobody receives the event: no node has subscribed %s; see zmtpd nodes",
			printable(topic))
	}
	return nil
}
