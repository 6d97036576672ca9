package main

import (
	"context"
	"errors"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// receiveFlags are those of the tools that print messages.
type receiveFlags struct {
	endpointFlags
	Format format `enum:"text,raw,recording" default:"text" help:"How messages are printed: text, raw or recording."`
	Count  uint64 `placeholder:"N" help:"Stop after N messages."`
}

// Help is shown by --help.
func (receiveFlags) Help() string { return formatHelp }

// receiver is a socket that receives.
type receiver interface {
	RecvBatch(context.Context) (*zmtp.Batch, error)
	Shutdown(context.Context) error
}

// drainTime bounds how long a tool that is stopped goes on reading what was sent to it.
const drainTime = 5 * time.Second

// print prints messages until ctx ends and everything received is printed, or until the
// count is reached.
func (c *receiveFlags) print(ctx context.Context, std *daemon.Stdio, s receiver) error {
	shut := make(chan error, 1)
	stopped := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		shut <- s.Shutdown(ctx)
	})
	err := c.printMessages(s, newMessageWriter(std.Out, c.Format))
	if stopped() || err != nil {
		return err
	}
	if err := <-shut; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (c *receiveFlags) printMessages(s receiver, w *messageWriter) error {
	n := uint64(0)
	for c.Count == 0 || n < c.Count {
		b, err := s.RecvBatch(context.Background()) // the socket's end ends it
		if errors.Is(err, zmtp.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for m := range b.Messages() {
			if err := w.Write(m); err != nil {
				return err
			}
			if n++; n == c.Count {
				break
			}
		}
		b.Release()
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
