package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type pairCommand struct{ tool.TalkFlags }

// Run sends standard input with a PAIR socket, and prints what it receives.
func (c *pairCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewPair(config)
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Talk(ctx, std, s)
}
