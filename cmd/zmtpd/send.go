package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// sendFlags are those of the tools that send standard input.
type sendFlags struct {
	endpointFlags
	Format format        `enum:"text,raw,recording" default:"text" help:"How messages stand in the input: text, raw or recording."`
	Count  uint64        `placeholder:"N" help:"Stop after N messages."`
	Linger time.Duration `default:"10s" help:"How long to go on sending after the end of input."`
}

// Help is shown by --help.
func (sendFlags) Help() string { return formatHelp }

// sender is a socket that sends.
type sender interface {
	Shutdown(context.Context) error
	Stats() zmtp.Stats
}

// sendInput sends what can be read, until its end, the count or that of ctx, and then
// gives the socket the time to send what is queued.
func (c *sendFlags) sendInput(ctx context.Context, std *daemon.Stdio, s sender,
	send func(context.Context, zmtp.Message) error) error {
	err := c.sendMessages(ctx, std.In, send)
	return errors.Join(err, linger(s, c.Linger, c.endpointFlags.String()))
}

func (c *sendFlags) sendMessages(ctx context.Context, in io.Reader,
	send func(context.Context, zmtp.Message) error) error {
	type input struct {
		m   zmtp.Message
		err error
	}
	// A read of a terminal or pipe cannot be interrupted. So this goroutine may stay
	// in it until the process ends.
	inputs := make(chan input)
	done := make(chan struct{})
	defer close(done)
	go func() {
		r := newMessageReader(in, c.Format)
		for {
			m, err := r.Next()
			select {
			case inputs <- input{m, err}:
				if err != nil {
					return
				}
			case <-done:
				return
			}
		}
	}()
	for n := uint64(0); c.Count == 0 || n < c.Count; n++ {
		var next input
		select {
		case next = <-inputs:
		case <-ctx.Done():
			return nil
		}
		if errors.Is(next.err, io.EOF) {
			return nil
		}
		if next.err != nil {
			return fmt.Errorf("standard input: %w", next.err)
		}
		if err := send(ctx, next.m); err != nil {
			if ctx.Err() == nil {
				return err
			}
			return fmt.Errorf("stopped while a message from standard input waited for a receiver")
		}
	}
	return nil
}

// linger shuts s down. What it could not send in time is an error.
func linger(s sender, limit time.Duration, endpoints string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := s.Shutdown(ctx)
	if lost := s.Stats().Dropped.Total(); lost > 0 {
		return fmt.Errorf("%d messages were not sent within --linger %v: is somebody receiving "+
			"at %s?", lost, limit, endpoints)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
