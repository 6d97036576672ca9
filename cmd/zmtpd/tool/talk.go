package tool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// TalkFlags are the flags of the tools that send standard input and print what they receive.
type TalkFlags struct {
	EndpointFlags
	Format Format          `enum:"text,raw,recording" default:"text" help:"Format of input and output: text, raw or recording."`
	Count  uint64          `placeholder:"N" help:"Stop after N messages were printed. Default: never."`
	Linger daemon.Duration `default:"10s" help:"Longest time to wait at the end until all messages are delivered."`
}

// Help is shown by --help.
func (TalkFlags) Help() string { return formatHelp }

// Talker is a socket that sends and receives.
type Talker interface {
	Sender
	receiver
	Send(context.Context, zmtp.Message) error
}

// Talk sends the messages on standard input and prints what s receives, at the same time. It ends
// when ctx ends, or when Count messages were printed and the input has ended, for which it waits at
// most Linger.
func (c *TalkFlags) Talk(ctx context.Context, std *daemon.Stdio, s Talker) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	in := SendFlags{Format: c.Format}
	sent := make(chan error, 1)
	go func() {
		err := in.sendMessages(ctx, std.In, s.Send)
		if ctx.Err() != nil {
			err = nil // stopped in order
		}
		sent <- err
		if err != nil {
			stop() // Print prints what has come, and ends
		}
	}()
	out := ReceiveFlags{Format: c.Format, Count: c.Count}
	err := out.Print(ctx, std, s)
	if err == nil && ctx.Err() == nil {
		timer := time.AfterFunc(time.Duration(c.Linger), stop)
		defer timer.Stop()
	} else {
		stop()
	}
	return errors.Join(err, <-sent, Linger(s, time.Duration(c.Linger), c.EndpointFlags.String()))
}

// ExchangeFlags are the flags of the tools that send and receive in turn.
type ExchangeFlags struct {
	EndpointFlags
	Format Format          `enum:"text,raw,recording" default:"text" help:"Format of input and output: text, raw or recording."`
	Count  uint64          `placeholder:"N" help:"Stop after N requests. Default: at the end of input."`
	Linger daemon.Duration `default:"10s" help:"Longest time to wait at the end until all messages are delivered."`
}

// Help is shown by --help.
func (ExchangeFlags) Help() string { return formatHelp }

// exchanger is a REQ or REP.
type exchanger interface {
	Sender
	Send(context.Context, zmtp.Message) error
	Recv(context.Context) (zmtp.Message, error)
}

// Ask sends each message on standard input as a request, and prints the reply to it before it sends
// the next. A reply that does not come within timeout is an error.
func (c *ExchangeFlags) Ask(ctx context.Context, std *daemon.Stdio, s exchanger,
	timeout time.Duration) error {
	in, out := SendFlags{Format: c.Format, Count: c.Count}, newMessageWriter(std.Out, c.Format)
	err := in.sendMessages(ctx, std.In, func(ctx context.Context, m zmtp.Message) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		err := s.Send(ctx, m)
		if err == nil {
			m, err = s.Recv(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no reply within --timeout %v; is there a REP at %s?", timeout,
				c.EndpointFlags.String())
		}
		if err != nil {
			return err
		}
		return errors.Join(out.Write(m), out.Flush())
	})
	return err
}

// Answer prints each request that s receives, and replies with the next message on standard input,
// or with the request if echo is set. It ends at the end of the input, after Count requests, or
// when ctx ends.
func (c *ExchangeFlags) Answer(ctx context.Context, std *daemon.Stdio, s exchanger,
	echo bool) error {
	out := newMessageWriter(std.Out, c.Format)
	take := func(ctx context.Context) (zmtp.Message, error) {
		m, err := s.Recv(ctx)
		if err != nil {
			return m, err
		}
		return m, errors.Join(out.Write(m), out.Flush())
	}
	var err error
	if echo {
		for n := uint64(0); err == nil && (c.Count == 0 || n < c.Count); n++ {
			var m zmtp.Message
			if m, err = take(ctx); err == nil {
				err = s.Send(ctx, m)
			}
		}
	} else {
		in := SendFlags{Format: c.Format, Count: c.Count}
		err = in.sendMessages(ctx, std.In, func(ctx context.Context, reply zmtp.Message) error {
			if _, err := take(ctx); err != nil {
				return err
			}
			return s.Send(ctx, reply)
		})
	}
	if ctx.Err() != nil {
		err = nil // stopped in order
	}
	return errors.Join(err, Linger(s, time.Duration(c.Linger), c.EndpointFlags.String()))
}
