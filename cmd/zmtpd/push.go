package main

import (
	"context"

	"zmtpd/zmtp"
)

type pushCommand struct{ sendFlags }

// Run sends standard input with a PUSH socket.
func (c *pushCommand) Run(ctx context.Context, std *stdio) error {
	config, err := c.config(std.err)
	if err != nil {
		return err
	}
	s := zmtp.NewPush(config)
	defer s.Close()
	if err := c.attach(s, std.err); err != nil {
		return err
	}
	return c.sendInput(ctx, std, s, s.Send)
}
