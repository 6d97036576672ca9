package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

type pushCommand struct{ sendFlags }

// Run sends standard input with a PUSH socket.
func (c *pushCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewPush(config, zmtp.PushOptions{})
	defer s.Close()
	if err := c.attach(s, std.Err); err != nil {
		return err
	}
	return c.sendInput(ctx, std, s, s.Send)
}
