package tool

import (
	"context"
	"errors"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// ReceiveFlags are the flags of the tools that print messages.
type ReceiveFlags struct {
	EndpointFlags
	Format Format `enum:"text,raw,recording" default:"text" help:"Format of the output: text, raw or recording."`
	Count  uint64 `placeholder:"N" help:"Stop after N messages. Default: never."`
}

// Help is shown by --help.
func (ReceiveFlags) Help() string { return formatHelp }

// receiver is a socket that receives.
type receiver interface {
	RecvBatch(context.Context) (*zmtp.Batch, error)
	Shutdown(context.Context) error
}

// DrainTime bounds the time in which a tool that was stopped reads what was sent to it.
const DrainTime = 5 * time.Second

// Print prints messages until it has printed Count, or until ctx ends and everything received is
// printed.
func (c *ReceiveFlags) Print(ctx context.Context, std *daemon.Stdio, s receiver) error {
	shut := make(chan error, 1)
	stopped := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), DrainTime)
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

func (c *ReceiveFlags) printMessages(s receiver, w *messageWriter) error {
	n := uint64(0)
	for c.Count == 0 || n < c.Count {
		b, err := s.RecvBatch(context.Background()) // Shutdown ends it
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
