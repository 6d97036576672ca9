package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type pushCommand struct{ tool.SendFlags }

// Run sends standard input with a PUSH socket.
func (c *pushCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewPush(config, zmtp.PushOptions{})
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.SendInput(ctx, std, s, s.Send)
}
