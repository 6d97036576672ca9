package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// SendFlags are the flags of the tools that send standard input.
type SendFlags struct {
	EndpointFlags
	Format Format          `enum:"text,raw,recording" default:"text" help:"Format of the input: text, raw or recording."`
	Count  uint64          `placeholder:"N" help:"Stop after N messages. Default: at the end of input."`
	Linger daemon.Duration `default:"10s" help:"Longest time to wait after the end of input until all messages are delivered."`
}

// Help is shown by --help.
func (SendFlags) Help() string { return formatHelp }

// Sender is a socket that sends.
type Sender interface {
	Shutdown(context.Context) error
	Stats() zmtp.Stats
}

// SendInput sends the messages on standard input until its end, until it has sent Count, or until
// ctx ends. Then it shuts the socket down, see [Linger].
func (c *SendFlags) SendInput(ctx context.Context, std *daemon.Stdio, s Sender,
	send func(context.Context, zmtp.Message) error) error {
	err := c.sendMessages(ctx, std.In, send)
	return errors.Join(err, Linger(s, time.Duration(c.Linger), c.EndpointFlags.String()))
}

func (c *SendFlags) sendMessages(ctx context.Context, in io.Reader,
	send func(context.Context, zmtp.Message) error) error {
	type input struct {
		m   zmtp.Message
		err error
	}
	// Nothing can interrupt a read of a terminal or pipe. So this goroutine may stay in it until
	// the process ends.
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
			return errors.New("stopped while a message from standard input waited for a receiver")
		}
	}
	return nil
}

// Linger shuts s down and waits until everything is sent, at most limit. It returns an error if
// messages are lost.
func Linger(s Sender, limit time.Duration, endpoints string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := s.Shutdown(ctx)
	if lost := s.Stats().Dropped.Total(); lost > 0 {
		return fmt.Errorf("%d messages could not be sent within --linger %v and are lost; is "+
			"there a receiver at %s?", lost, limit, endpoints)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
