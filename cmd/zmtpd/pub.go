package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type pubCommand struct {
	tool.SendFlags
	Wait daemon.Count `default:"1" help:"Subscriptions to wait for before the first message, since messages without a subscriber are lost. 0: none."`
}

// Run publishes standard input. The socket is an XPUB, not a PUB: it receives subscriptions, and it
// waits for slow subscribers.
func (c *pubCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewXPub(config, zmtp.XPubOptions{Verboser: true, NoDrop: true})
	defer s.Close()
	if err := c.Attach(s, std.Err); err != nil {
		return err
	}
	if err := awaitSubscriptions(ctx, s, int(c.Wait)); err != nil {
		return nil // stopped before anything was sent
	}
	go discard(s)
	return c.SendInput(ctx, std, s, s.Send)
}

// awaitSubscriptions returns when there are n subscriptions, counted for each subscriber, or when
// ctx ends, with its cause.
func awaitSubscriptions(ctx context.Context, s *zmtp.XPub, n int) error {
	for n > 0 {
		m, err := s.Recv(ctx)
		if err != nil {
			return err
		}
		if topic := m.Part(0); m.NumParts() == 1 && len(topic) > 0 {
			switch topic[0] {
			case 0:
				n++
			case 1:
				n--
			}
		}
	}
	return nil
}

// discard receives what subscribers send until the socket ends, so that none of them has to wait.
func discard(s *zmtp.XPub) {
	for {
		b, err := s.RecvBatch(context.Background())
		if err != nil {
			return
		}
		b.Release()
	}
}
