package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type repCommand struct {
	tool.ExchangeFlags
	Echo bool `help:"Reply with the request itself. Standard input is not read."`
}

// Run prints what a REP socket receives, and replies.
func (c *repCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewRep(config)
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Answer(ctx, std, s, c.Echo)
}
