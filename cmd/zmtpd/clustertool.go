package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/forwarder/cluster"
)

// clusterToolFlags are the flags of the tools that are passive nodes of a cluster.
type clusterToolFlags struct {
	XSub string `name:"xsub" default:"tcp://127.0.0.1:5556" help:"XSUB of the cluster's broker: Zeek's connect_xpub_endpoint."`
	XPub string `name:"xpub" default:"tcp://127.0.0.1:5555" help:"XPUB of the cluster's broker: Zeek's connect_xsub_endpoint."`
	daemon.ClientFlags
}

// join makes a passive node. It prints to stderr why the node is not connected.
func (f *clusterToolFlags) join(config cluster.Config, stderr io.Writer) (*cluster.Node, error) {
	socket, err := f.Socket()
	if err != nil {
		return nil, err
	}
	config.XSub, config.XPub, config.Socket = f.XSub, f.XPub, socket
	node, err := cluster.Join(config)
	if err != nil {
		return nil, err
	}
	for _, s := range node.Sockets() {
		tool.WatchConnections(s, stderr)
	}
	return node, nil
}

// ready waits until the node knows what the others have subscribed, at most limit. It returns the
// cause of ctx's end if that comes first.
func (f *clusterToolFlags) ready(ctx context.Context, node *cluster.Node,
	limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("no answer of the broker at --xsub %s and --xpub %s within --wait %v; is it "+
			"running, and are the two endpoints those of its sockets?", f.XSub, f.XPub, limit))
	defer cancel()
	return node.Ready(ctx)
}

// leave ends a node, which handles and sends what waits, at most limit.
func leave(node *cluster.Node, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := node.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// printable returns text as it is if it is one word of printable characters, else in quotes.
func printable(text string) string {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsPrint(c) || c == '"'
	}) {
		return strconv.Quote(text)
	}
	return text
}

// nodeName returns the name of a node for people: that in its id, or the id.
func nodeName(id string) string {
	if name := cluster.NameInID(id); name != "" {
		return name
	}
	return id
}

// timeFormat is that of a time in the output of tools.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"
