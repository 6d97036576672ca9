package main

import (
	"context"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type reqCommand struct {
	tool.ExchangeFlags
	Timeout daemon.Duration `default:"10s" help:"Longest time to wait for a reply."`
}

// Run sends standard input with a REQ socket, and prints the replies.
func (c *reqCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewReq(config, zmtp.ReqOptions{})
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Ask(ctx, std, s, time.Duration(c.Timeout))
}
