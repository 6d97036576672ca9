package main

import (
	"context"
	"errors"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type routerCommand struct{ tool.TalkFlags }

// Run sends standard input with a ROUTER socket, and prints what it receives. The first part of
// each message is the routing id of the peer. A message waits until there is a peer of its routing
// id.
func (c *routerCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewRouter(config, zmtp.RouterOptions{Mandatory: true})
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	return c.Talk(ctx, std, patientRouter{s})
}

// patientRouter waits for the peer of each message.
type patientRouter struct{ *zmtp.Router }

// patientPause is the time between two looks whether the peer is there.
const patientPause = 20 * time.Millisecond

// Send implements tool.Talker.
func (s patientRouter) Send(ctx context.Context, m zmtp.Message) error {
	for {
		err := s.Router.Send(ctx, m)
		if !errors.Is(err, zmtp.ErrNoPeer) {
			return err
		}
		select {
		case <-time.After(patientPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
