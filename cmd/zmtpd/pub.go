package main

import (
	"context"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

type pubCommand struct {
	sendFlags
	Wait int `default:"1" placeholder:"N" help:"Send nothing before there are N subscriptions, because what nobody has subscribed is lost. 0 does not wait."`
}

// Run publishes standard input. It is an XPUB rather than a PUB, which does not learn
// of subscriptions, and waits for subscribers that are slow.
func (c *pubCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	config, err := c.Socket()
	if err != nil {
		return err
	}
	s := zmtp.NewXPub(config, zmtp.XPubOptions{Verboser: true, NoDrop: true})
	defer s.Close()
	if err := c.attach(s, std.Err); err != nil {
		return err
	}
	if err := awaitSubscriptions(ctx, s, c.Wait); err != nil {
		return nil // stopped before anything was sent
	}
	go discard(s)
	return c.sendInput(ctx, std, s, s.Send)
}

// awaitSubscriptions returns when n topics are subscribed, several subscribers of one
// counted each; or with the cause of ctx.
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

// discard takes what subscribers send until the socket ends, so that none has to wait.
func discard(s *zmtp.XPub) {
	for {
		b, err := s.RecvBatch(context.Background())
		if err != nil {
			return
		}
		b.Release()
	}
}
