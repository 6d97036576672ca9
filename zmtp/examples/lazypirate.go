package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zmtpd/zmtp"
)

// lazyPirate is a client that asks again when there is no reply in time, and gives up after some
// attempts. The server may therefore get a request more than once.
//
// A REQ that waits for a reply cannot send, so the client makes a new socket for each new attempt,
// which also loses a reply that comes late. ReqOptions.Relaxed and Correlate do the same with one
// socket, if the servers are REPs: Correlate adds a part to the envelope, which the queues and
// workers of the other examples do not expect.
type lazyPirate struct {
	endpoint string
	timeout  time.Duration // of one attempt
	attempts int
	req      *zmtp.Req // nil before the first request, and after an attempt that failed
}

// Request sends a request and returns the reply. It is not for concurrent use.
func (c *lazyPirate) Request(ctx context.Context, request zmtp.Message) (zmtp.Message, error) {
	for range c.attempts {
		reply, err := c.try(ctx, request)
		if err == nil {
			return reply, nil
		}
		c.Close()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return reply, err
		}
	}
	return zmtp.Message{}, fmt.Errorf("%s: no reply to %d requests within %v each", c.endpoint,
		c.attempts, c.timeout)
}

func (c *lazyPirate) try(ctx context.Context, request zmtp.Message) (zmtp.Message, error) {
	if c.req == nil {
		c.req = zmtp.NewReq(zmtp.Config{})
		if err := c.req.Connect(c.endpoint); err != nil {
			return zmtp.Message{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.req.Send(ctx, request); err != nil {
		return zmtp.Message{}, err
	}
	return c.req.Recv(ctx)
}

// Close closes the socket. The next Request makes a new one.
func (c *lazyPirate) Close() {
	if c.req != nil {
		c.req.Close()
		c.req = nil
	}
}

// echoServer answers each request with itself.
func echoServer(ctx context.Context, s *zmtp.Rep) error {
	for {
		m, err := s.Recv(ctx)
		if err != nil {
			return err
		}
		if err := s.Send(ctx, m); err != nil {
			return err
		}
	}
}
