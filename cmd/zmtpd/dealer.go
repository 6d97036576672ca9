package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type dealerCommand struct {
	tool.TalkFlags
	RoutingID string `placeholder:"ID" help:"Name by which a ROUTER addresses this socket, 1 to 255 bytes."`
}

// Run sends standard input with a DEALER socket, and prints what it receives.
func (c *dealerCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	config.RoutingID = []byte(c.RoutingID)
	s := zmtp.NewDealer(config, zmtp.DealerOptions{})
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Talk(ctx, std, s)
}
