// Package zapclient asks an existing ZAP handler (RFC 27) in another process, over a connection to
// its REP or ROUTER socket.
package zapclient

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// ErrUnavailable is returned while the handler is not connected or does not keep up with requests.
var ErrUnavailable = errors.New("zapclient: the handler is not connected or too slow")

// Client is a zap.Handler that passes requests on. Several may be under way at once. Each has its
// own request id, which the reply repeats.
type Client struct {
	socket *zmtp.Socket

	mu      sync.Mutex
	next    uint64
	waiting map[string]chan<- answer
	peer    *zmtp.Peer // nil while the handler is not connected
}

type answer struct {
	reply zap.Reply
	err   error
}

// Dial returns a Client of the handler at endpoint. It does not wait for the connection. cfg
// configures the socket; usually only Mechanism is set.
func Dial(endpoint string, cfg zmtp.Config) (*Client, error) {
	c := &Client{waiting: make(map[string]chan<- answer)}
	c.socket = zmtp.NewSocket(wire.DEALER, (*pattern)(c), cfg)
	if err := c.socket.Connect(endpoint); err != nil {
		c.socket.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection. Requests that wait fail.
func (c *Client) Close() error { return c.socket.Close() }

// Authenticate implements zap.Handler. It blocks until the reply comes or ctx ends.
func (c *Client) Authenticate(ctx context.Context, req *zap.Request) (zap.Reply, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	c.next++
	r := *req
	r.ID = strconv.FormatUint(c.next, 10)
	peer := c.peer
	if peer == nil {
		c.mu.Unlock()
		return zap.Reply{}, ErrUnavailable
	}
	c.waiting[r.ID] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, r.ID)
		c.mu.Unlock()
	}()
	// A REQ socket sends an empty frame before the request (RFC 28).
	if !peer.OfferMessage(zmtp.NewMessage(append([][]byte{nil}, r.Frames()...)...)) {
		return zap.Reply{}, ErrUnavailable
	}
	select {
	case a := <-ch:
		a.reply.ID = req.ID
		return a.reply, a.err
	case <-peer.Done():
		return zap.Reply{}, fmt.Errorf("%w: the connection was lost while it was asked",
			ErrUnavailable)
	case <-ctx.Done():
		return zap.Reply{}, context.Cause(ctx)
	}
}

// maxParts bounds the parts of a reply that is looked at: the delimiter, six frames, and some that
// are too many.
const maxParts = 16

type pattern Client

func (c *pattern) Attach(p *zmtp.Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer = p
	return nil
}

func (c *pattern) Detach(p *zmtp.Peer, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peer == p {
		c.peer = nil
	}
}

// Receive gives each reply to the call that waits for it. A reply for which no call waits is
// ignored: it is late or false.
func (c *pattern) Receive(_ *zmtp.Peer, b *zmtp.Batch) error {
	for m := range b.Messages() {
		if n := m.NumParts(); n < 3 || n > maxParts {
			continue
		}
		// the batch ends with this call
		frames := zmtp.NewMessage(m.AppendParts(nil)...).AppendParts(nil)
		id := string(frames[2])
		c.mu.Lock()
		ch, ok := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if !ok {
			continue
		}
		var a answer
		if len(frames[0]) != 0 {
			a.err = &zap.Error{
				Fault: zap.FaultUnspecified, Detail: "the delimiter of the reply is not empty",
			}
		} else {
			a.reply, a.err = zap.ParseReply(frames[1:], id)
		}
		ch <- a
	}
	return nil
}
