package main

import (
	"context"

	"zmtpd/zmtp"
)

type pullCommand struct{ receiveFlags }

// Run prints what a PULL socket receives.
func (c *pullCommand) Run(ctx context.Context, std *stdio) error {
	config, err := c.config(std.err)
	if err != nil {
		return err
	}
	s := zmtp.NewPull(config)
	defer s.Close()
	if err := c.attach(s, std.err); err != nil {
		return err
	}
	return c.print(ctx, std, s)
}
