package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"zmtpd/forwarder"
	"zmtpd/zmtp/memory"
)

// client is a connection of a WebSocket client.
type client struct {
	// Static.
	g        *Gateway
	ws       *websocket.Conn
	conn     *corked
	id       uint64
	endpoint string // its node id
	remote   string
	app      string // X-Application-Name
	identity *Identity
	counters *counters
	holder   *memory.Holder
	pub      *forwarder.LocalPublisher
	done     chan struct{} // closed when the connection is given up

	out     queue
	closing atomic.Bool  // closeFor was called
	held    atomic.Bool  // its messages are not read for a while
	heard   atomic.Int64 // when its last message was read, in ns since 1970
	aborted sync.Once    // closes done

	// Of its read goroutine.
	acknowledged bool
	topicBytes   int64
	tokens       float64 // messages that it may send now, as of refilled
	refilled     time.Time
}

// clientFloor is about what an idle client takes, in bytes.
const clientFloor = 16 << 10

// start makes a client of a connection. It returns nil if the Gateway is being shut down.
func (g *Gateway) start(c *client) *client {
	c.g = g
	c.id = g.last.Add(1) - 1
	c.endpoint = fmt.Sprintf("%s-websocket-%d", g.node, c.id)
	c.pub = g.local.NewPublisher()
	c.done = make(chan struct{})
	c.counters = g.accounts.of(c.identity.Name, c.app)
	c.holder = g.cfg.Load().Memory.NewHolder("websocket clients", clientFloor, func(error) {
		g.refuse(MemoryExhausted, c.remote, c.identity.Name)
		c.abort()
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		c.holder.Close()
		return nil
	}
	c.counters.connections.Add(1)
	c.counters.present.Add(1)
	g.clients[c] = struct{}{}
	g.readers.Go(c.read)
	return c
}

// abort gives the connection up at once.
func (c *client) abort() {
	c.aborted.Do(func() {
		close(c.done)
		c.conn.Close()
	})
}

func (c *client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// closeTimeout is how long the client may take to answer that it is closed.
const closeTimeout = time.Second

// closeFor closes the connection for a reason, which is counted. It does not block.
func (c *client) closeFor(r Reason, code websocket.StatusCode, text string) {
	if c.closing.Swap(true) {
		return
	}
	c.g.refuse(r, c.remote, c.identity.Name, "application", c.app)
	c.g.spawn(func() { c.close(code, text) })
}

// close does the closing handshake, for closeTimeout at most.
func (c *client) close(code websocket.StatusCode, text string) {
	timer := time.AfterFunc(closeTimeout, c.abort)
	defer timer.Stop()
	c.ws.Close(code, text)
	c.abort()
}

// terminate closes the connection at the end of the Gateway, once its queue is empty.
func (c *client) terminate(ctx context.Context) {
	if c.flush(ctx) && !c.closing.Swap(true) {
		c.close(websocket.StatusGoingAway, "Terminating")
	}
}

// flush waits until the queue is empty or the client gone. It returns false if ctx ends first.
func (c *client) flush(ctx context.Context) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, _, writing := c.out.length(); !writing || c.ended() {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// ping sends a ping and closes the client that does not answer in time. The answer comes behind the
// messages of the client, so one that is held up, or sends more than is read, counts as alive.
func (c *client) ping(timeout time.Duration) {
	begin := time.Now().UnixNano()
	ctx, cancel := context.WithTimeout(c.g.ctx, timeout)
	defer cancel()
	err := c.ws.Ping(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) &&
		!c.held.Load() && c.heard.Load() < begin {
		c.closeFor(PingTimeout, websocket.StatusInternalError, "Ping timeout")
	}
}

// finish removes the client.
func (c *client) finish() {
	c.abort()
	g := c.g
	g.unsubscribe(c)
	for _, f := range c.out.close() {
		c.holder.Unpin(int64(len(f.text)))
		c.lose(f, Closing)
		f.release()
	}
	c.counters.present.Add(-1)
	c.holder.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.clients, c)
}

// read reads messages until the connection ends.
func (c *client) read() {
	defer c.finish()
	late := time.AfterFunc(c.g.cfg.Load().HandshakeTimeout, func() {
		c.closeFor(NoSubscriptions, websocket.StatusPolicyViolation,
			"No subscriptions within the time for them")
	})
	defer late.Stop()
	for first := true; ; first = false {
		c.ws.SetReadLimit(c.g.cfg.Load().MaxMessageSize)
		_, r, err := c.ws.Reader(context.Background())
		if err == nil {
			err = c.message(r, first)
		}
		if err != nil {
			c.lost(err)
			return
		}
		late.Stop()
	}
}

// lost counts the end of a connection that was the client's fault.
func (c *client) lost(err error) {
	switch {
	case c.closing.Load(), c.ended():
	case errors.Is(err, websocket.ErrMessageTooBig):
		c.g.refuse(MessageTooBig, c.remote, c.identity.Name, "limit",
			c.g.cfg.Load().MaxMessageSize)
	case websocket.CloseStatus(err) != -1, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	default:
		if _, ok := errors.AsType[net.Error](err); !ok {
			c.g.refuse(ProtocolError, c.remote, c.identity.Name, "err", err)
		}
	}
}

// messageBuffer is the size of the buffers for messages in bytes. Larger messages get memory of
// their own.
const messageBuffer = 4 << 10

var messageBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, messageBuffer)
	return &b
}}

// message reads a message and acts on it. An error means that the connection has ended.
func (c *client) message(r io.Reader, first bool) error {
	buf := messageBuffers.Get().(*[]byte)
	defer messageBuffers.Put(buf)
	text, reserved := *buf, int64(0)
	defer func() { c.holder.Release(reserved) }()
	for {
		if len(text) == cap(text) {
			// Twice what is added: the event takes no more than its text.
			more := int64(2 * cap(text))
			c.held.Store(true)
			ok := c.holder.Reserve(more, more, c.done)
			c.held.Store(false)
			if !ok {
				return net.ErrClosed
			}
			reserved += more
			text = append(make([]byte, 0, 2*cap(text)), text...)
		}
		n, err := r.Read(text[len(text):cap(text)])
		if text = text[:len(text)+n]; errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	c.heard.Store(time.Now().UnixNano())
	c.holder.Progress(len(text))
	if err := c.throttle(); err != nil {
		return err
	}
	c.counters.in.Add(1)
	c.counters.inBytes.Add(uint64(len(text)))
	if first {
		c.subscribe(text)
		return nil
	}
	c.held.Store(true)
	defer c.held.Store(false)
	return c.publish(text)
}

// throttle waits as long as the rate limit demands.
func (c *client) throttle() error {
	rate := float64(c.g.cfg.Load().Rate)
	now := time.Now()
	c.tokens = math.Min(c.tokens+rate*now.Sub(c.refilled).Seconds(), rate)
	if c.refilled.IsZero() {
		c.tokens = rate
	}
	c.refilled = now
	c.tokens--
	if c.tokens >= 0 {
		return nil
	}
	c.counters.throttled.Add(1)
	c.held.Store(true)
	defer c.held.Store(false)
	timer := time.NewTimer(time.Duration(-c.tokens / rate * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.done:
		return net.ErrClosed
	}
}
