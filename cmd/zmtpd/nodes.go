package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/cluster"
)

type nodesCommand struct {
	clusterToolFlags
	Layout string          `placeholder:"FILE" help:"cluster-layout.zeek of the cluster: shows the types of the nodes, and those that are down."`
	Follow bool            `help:"Go on, and print each node that comes or goes."`
	Format string          `enum:"text,json" default:"text" help:"Format of the output: text, or json for one object in each line."`
	Wait   daemon.Positive `default:"10s" help:"Longest time to wait for the broker."`
}

// Help is shown by zmtpd nodes --help.
func (nodesCommand) Help() string {
	return `Shows who is in a Zeek cluster, without being seen by its nodes. Each node subscribes a
topic with its id; the name is the one in the id, or that in a hello of the node. Nodes say no
goodbye: one that is gone may have ended or lost its connection.`
}

// nodeLine is a line of the output.
type nodeLine struct {
	Time  string `json:"time,omitempty"`
	State string `json:"state"` // up or down
	Name  string `json:"name"`
	Type  string `json:"type,omitempty"` // in --layout
	ID    string `json:"id,omitempty"`
	Cause string `json:"cause,omitempty"` // for down
}

// Run prints the nodes.
func (c *nodesCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	layout, err := readLayout("--layout", c.Layout)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var config cluster.Config
	if c.Follow {
		config.Status = func(_ context.Context, s cluster.Status) {
			if err := c.print(std.Out, []nodeLine{c.change(s, layout)}); err != nil {
				stop(err)
			}
		}
	}
	node, err := c.join(config, std.Err)
	if err != nil {
		return err
	}
	if c.Follow {
		<-ctx.Done()
	} else if err = c.ready(ctx, node, time.Duration(c.Wait)); err == nil {
		err = c.print(std.Out, c.list(node.Peers(), layout))
	}
	leave(node, 0)
	if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, context.Canceled) {
		return cause
	} else if ctx.Err() != nil {
		return nil
	}
	return err
}

// change returns the line for a change in the cluster.
func (c *nodesCommand) change(s cluster.Status, layout *cluster.Layout) nodeLine {
	l := newNodeLine(s.Peer, layout)
	l.Time = time.Now().Format(timeFormat)
	if s.Kind != cluster.PeerAdded {
		l.State, l.Cause = "down", s.Cause.String()
	}
	return l
}

func newNodeLine(p cluster.Peer, layout *cluster.Layout) nodeLine {
	l := nodeLine{State: "up", Name: p.Name, ID: p.ID}
	if layout != nil {
		if t, ok := layout.Nodes[p.Name]; ok {
			l.Type = t.String()
		}
	}
	return l
}

// list returns the lines for the nodes that are up, and for those of the layout that are not.
func (c *nodesCommand) list(peers []cluster.Peer, layout *cluster.Layout) (lines []nodeLine) {
	up := map[string]bool{}
	for _, p := range peers {
		up[p.Name] = true
		lines = append(lines, newNodeLine(p, layout))
	}
	if layout != nil {
		for name, t := range layout.Nodes {
			if !up[name] {
				lines = append(lines, nodeLine{State: "down", Name: name, Type: t.String()})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b nodeLine) int { return strings.Compare(a.Name, b.Name) })
	return lines
}

// print prints lines in the format of the output.
func (c *nodesCommand) print(out io.Writer, lines []nodeLine) error {
	if c.Format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for _, l := range lines {
			if err := encoder.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		var columns []string
		if l.Type == "" && c.Layout != "" {
			l.Type = "-" // not in the layout; the other columns keep their places
		}
		for _, column := range []string{l.Time, l.State, l.Name, l.Type, l.ID, l.Cause} {
			if column != "" {
				columns = append(columns, printable(column))
			}
		}
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	return w.Flush()
}
