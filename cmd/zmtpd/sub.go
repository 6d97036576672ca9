package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

type subCommand struct {
	receiveFlags
	Topic []string `sep:"none" placeholder:"PREFIX" help:"Receive the messages whose first part begins with it (repeatable). Default: all."`
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
	if err := c.attach(s, std.Err); err != nil {
		return err
	}
	return c.print(ctx, std, s)
}
