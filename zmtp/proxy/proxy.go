// Package proxy passes messages between two sockets: ROUTER and DEALER for a queue of requests,
// XSUB and XPUB for a broker, PULL and PUSH for a streamer, or any other pair
// (zmq_proxy_steerable).
package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"zmtpd/zmtp"
)

// Socket is a socket of package zmtp. A socket that receives has the method RecvBatch or Recv, and
// one that sends SendBatch or Send.
type Socket interface {
	Type() zmtp.SocketType
}

// Sender is a socket that sends.
type Sender interface {
	SendBatch(context.Context, *zmtp.Batch) (int, error)
}

// Proxy passes what one of two sockets receives to the other, in both directions, or in one if a
// socket cannot send or not receive. Its methods may be called from any goroutine.
type Proxy struct {
	directions []*direction
	capture    Sender
	counters   [2]counters // of the front and the back

	ended     chan struct{} // closed by Terminate
	terminate sync.Once

	mu      sync.Mutex
	resumed chan struct{} // closed while messages pass
}

// direction is the way from one socket to the other.
type direction struct {
	recv    func(context.Context) (*zmtp.Batch, error)
	send    Sender
	in, out *counters
}

// counters count what a socket has received and sent.
type counters struct {
	mu      sync.Mutex
	in, out zmtp.Traffic
	dropped uint64
}

// count adds messages of b, the first of which is first, to a counter of c.
func (c *counters) count(t *zmtp.Traffic, b *zmtp.Batch, first, n int) {
	parts, bytes := b.Counts(first, first+n)
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Add(zmtp.Traffic{Messages: uint64(n), Parts: uint64(parts), Bytes: uint64(bytes)})
}

func (c *counters) drop(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped += uint64(n)
}

func (c *counters) load() SocketStatistics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return SocketStatistics{c.in, c.out, c.dropped}
}

// Statistics are what has passed.
type Statistics struct{ Front, Back SocketStatistics }

// SocketStatistics are the counters of one socket.
type SocketStatistics struct {
	In, Out zmtp.Traffic
	Dropped uint64 // messages that it could not send
}

// New returns a proxy between two sockets, which may be the same one: then it sends back what it
// receives. capture, unless it is nil, gets a copy of each message before it is passed on; the
// proxy waits while it has no room. The sockets stay the caller's.
func New(front, back Socket, capture Sender) (*Proxy, error) {
	p := &Proxy{capture: capture, resumed: make(chan struct{}),
		ended: make(chan struct{})}
	close(p.resumed)
	p.connect(front, back, &p.counters[0], &p.counters[1])
	if front != back {
		p.connect(back, front, &p.counters[1], &p.counters[0])
	}
	if len(p.directions) == 0 {
		return nil, fmt.Errorf("proxy: nothing can pass between %s and %s: one has to receive and "+
			"the other to send", front.Type(), back.Type())
	}
	return p, nil
}

// connect adds the direction from one socket to the other, if there is one.
func (p *Proxy) connect(from, to Socket, in, out *counters) {
	d := &direction{in: in, out: out}
	switch s := from.(type) {
	case interface {
		RecvBatch(context.Context) (*zmtp.Batch, error)
	}:
		d.recv = s.RecvBatch
	case interface {
		Recv(context.Context) (zmtp.Message, error)
	}:
		d.recv = func(ctx context.Context) (*zmtp.Batch, error) {
			m, err := s.Recv(ctx)
			if err != nil {
				return nil, err
			}
			var b zmtp.BatchBuilder
			b.AddMessage(m)
			return b.Batch(), nil
		}
	}
	switch s := to.(type) {
	case Sender:
		d.send = s
	case interface {
		Send(context.Context, zmtp.Message) error
	}:
		d.send = oneByOne(s.Send)
	}
	if d.recv != nil && d.send != nil {
		p.directions = append(p.directions, d)
	}
}

// oneByOne sends a batch with the Send of a socket. Its messages are copied, since they outlive the
// batch.
type oneByOne func(context.Context, zmtp.Message) error

// SendBatch implements Sender.
func (send oneByOne) SendBatch(ctx context.Context, b *zmtp.Batch) (n int, err error) {
	for m := range b.Messages() {
		if err := send(ctx, zmtp.NewMessage(m.AppendParts(nil)...)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Run passes messages until ctx ends, Terminate is called, or a socket is closed. It returns nil in
// all these cases, and otherwise the error of a socket. It is called once. What was received and
// not sent at the end counts as dropped.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	for _, d := range p.directions {
		all.Go(func() { stop(p.pass(ctx, d)) })
	}
	select {
	case <-ctx.Done():
	case <-p.ended:
		stop(nil)
	}
	all.Wait()
	switch err := context.Cause(ctx); {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, zmtp.ErrClosed):
		return nil
	default:
		return err
	}
}

// pass passes messages in one direction until ctx ends or a socket fails.
func (p *Proxy) pass(ctx context.Context, d *direction) error {
	for {
		if err := p.awaitResume(ctx); err != nil {
			return err
		}
		b, err := d.recv(ctx)
		if err != nil {
			return err
		}
		d.in.count(&d.in.in, b, 0, b.Len())
		err = p.awaitResume(ctx)
		if err == nil && p.capture != nil {
			_, err = p.capture.SendBatch(ctx, b)
		}
		if err == nil {
			err = d.sendAll(ctx, b)
		} else {
			d.out.drop(b.Len())
		}
		b.Release()
		if err != nil {
			return err
		}
	}
}

// sendAll sends the messages of b. It drops those that the socket cannot send: without a peer of
// their routing id, or with parts that the socket type does not allow.
func (d *direction) sendAll(ctx context.Context, b *zmtp.Batch) error {
	rest, first := b, 0 // rest begins with message first of b
	for {
		n, err := d.send.SendBatch(ctx, rest)
		d.out.count(&d.out.out, b, first, n)
		first += n
		if rest != b {
			rest.Release()
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, zmtp.ErrNoPeer), errors.Is(err, zmtp.ErrMessage),
			errors.Is(err, zmtp.ErrState):
		default:
			d.out.drop(b.Len() - first)
			return err
		}
		d.out.drop(1)
		if first++; first == b.Len() {
			return nil
		}
		rest = b.Keep([]zmtp.Run{{From: first, To: b.Len()}})
	}
}

// awaitResume waits while the proxy is paused.
func (p *Proxy) awaitResume(ctx context.Context) error {
	p.mu.Lock()
	resumed := p.resumed
	p.mu.Unlock()
	select {
	case <-resumed:
		return ctx.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pause stops the passing of messages. What comes waits in the sockets, up to their high-water
// marks, and one batch for each direction in the proxy.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.resumed:
		p.resumed = make(chan struct{})
	default:
	}
}

// Resume undoes Pause.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.resumed:
	default:
		close(p.resumed)
	}
}

// Terminate ends Run, also one that has not begun.
func (p *Proxy) Terminate() { p.terminate.Do(func() { close(p.ended) }) }

// Statistics returns the counters.
func (p *Proxy) Statistics() Statistics {
	return Statistics{p.counters[0].load(), p.counters[1].load()}
}
