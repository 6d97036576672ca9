package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type subCommand struct {
	tool.ReceiveFlags
	Topic []string `sep:"none" placeholder:"PREFIX" help:"Prefix of the topics to receive: how the first part of a message begins (repeatable). Default: all messages."`
}

// Run prints what a SUB socket receives.
func (c *subCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewSub(config)
	defer s.Close()
	if len(c.Topic) == 0 {
		c.Topic = []string{""}
	}
	for _, topic := range c.Topic {
		if err := s.Subscribe(topic); err != nil {
			return err
		}
	}
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Print(ctx, std, s)
}
