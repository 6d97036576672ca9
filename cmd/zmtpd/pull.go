package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type pullCommand struct{ tool.ReceiveFlags }

// Run prints what a PULL socket receives.
func (c *pullCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewPull(config)
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Print(ctx, std, s)
}
