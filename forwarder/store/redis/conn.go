package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/memory"
)

const (
	// smallBuffer is what a connection has for requests while they are small, and as much again for
	// its answers, in bytes.
	smallBuffer = 8 << 10
	// flushAt is the size of the answers at which a pipeline is interrupted to send them, in bytes.
	flushAt = 64 << 10
	// maxGuesses is how many wrong passwords end a connection.
	maxGuesses = 10
)

// conn is the connection of a client.
type conn struct {
	s      *Server
	id     uint64
	net    net.Conn
	key    netip.Addr // see host.Of
	holder *memory.Holder
	done   chan struct{} // closed with the connection
	once   sync.Once
	since  time.Time

	user atomic.Pointer[User] // who has authenticated, nil for nobody; written by the reader

	// The rest belongs to the goroutine that reads, unless it says otherwise.
	parse   parser
	in      []byte // in[from:to] was received and not read yet
	from    int
	to      int
	held    int64 // reserved for in beyond smallBuffer
	waits   bool  // the next request is incomplete
	session session

	violation error // of the protocol; nothing is read behind it

	writing sync.Mutex // held while bytes are written
	feed    feed       // what the client has subscribed to
}

func newConn(s *Server, nc net.Conn, key netip.Addr, id uint64) *conn {
	c := &conn{s: s, id: id, net: nc, key: key, done: make(chan struct{}), since: time.Now(),
		in: make([]byte, smallBuffer)}
	c.holder = s.cfg.Load().Memory.NewHolder("redis clients", 2*smallBuffer, func(error) {
		c.refuse(MemoryExhausted)
		c.close()
	})
	c.feed.init(c)
	c.session.init(c)
	return c
}

// close ends the connection. It may be called from any goroutine, several times.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.done)
		c.net.Close()
	})
}

// refuse counts that c or a request of it is refused.
func (c *conn) refuse(r Reason) { c.s.refuse(r, c.net.RemoteAddr().String(), c.name()) }

// name returns the name of the client, "" before it has authenticated.
func (c *conn) name() string {
	if u := c.user.Load(); u != nil {
		return u.Name
	}
	return ""
}

// serve reads and answers requests until the connection ends.
func (c *conn) serve() {
	defer c.end()
	if !c.handshake() {
		return
	}
	for {
		if args := c.next(); args != nil {
			c.session.run(args)
			if len(c.session.out.b) < flushAt && !c.session.quit {
				continue
			}
		}
		if c.violation != nil {
			c.session.out.fail("ERR " + c.violation.Error())
		}
		if !c.flush() || c.violation != nil || c.session.quit {
			return
		}
		if c.waits && !c.read() {
			return
		}
	}
}

// next returns the next request that has arrived, nil if none has (waits), or if there is none any
// more (violation).
func (c *conn) next() [][]byte {
	for {
		args, n, err := c.parse.next(c.in[c.from:c.to], c.limits())
		c.waits = n == 0 && err == nil
		if err != nil && c.violation == nil {
			c.violation = err
			var p *protocolError
			if errors.As(err, &p) {
				c.refuse(p.reason)
			}
		}
		if n == 0 {
			return nil
		}
		c.from += n
		if len(args) > 0 {
			c.s.requests.Add(1)
			return args
		}
	}
}

// handshake completes the one of TLS, if there is one.
func (c *conn) handshake() bool {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.s.cfg.Load().AuthTimeout)
	defer cancel()
	if t.HandshakeContext(ctx) == nil {
		return true
	}
	c.refuse(BadHandshake)
	return false
}

func (c *conn) end() {
	c.close()
	c.s.leave(c)
	c.feed.end()
	c.session.discard()
	c.session.flushed()
	c.holder.Release(c.held)
	c.holder.Close()
}

// limits returns the bounds of the next request.
func (c *conn) limits() limits {
	if c.user.Load() == nil {
		return unauthenticated
	}
	cfg := c.s.cfg.Load()
	return limits{arguments: cfg.MaxArguments, bulk: cfg.MaxRequest, total: cfg.MaxRequest}
}

// read waits for more bytes and reads them. It returns false at the end.
func (c *conn) read() bool {
	if c.from == c.to {
		c.from, c.to = 0, 0
		c.shrink()
		c.parse.trim()
	}
	if c.to == len(c.in) && !c.grow() {
		return false
	}
	deadline := time.Time{}
	if c.user.Load() == nil {
		deadline = c.since.Add(c.s.cfg.Load().AuthTimeout)
	}
	c.net.SetReadDeadline(deadline)
	if c.s.closing.Load() { // its deadline may have been replaced
		return false
	}
	n, err := c.net.Read(c.in[c.to:])
	c.to += n
	c.s.in.Add(uint64(n))
	c.holder.Progress(n)
	if n > 0 {
		return true
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && !c.s.closing.Load() {
		c.refuse(AuthTimeout)
	}
	return false
}

// grow makes room for more of a request. The buffer doubles as bytes arrive, whatever length the
// request announces.
func (c *conn) grow() bool {
	have := c.to - c.from
	if c.from >= len(c.in)/2 {
		copy(c.in, c.in[c.from:c.to])
		c.from, c.to = 0, have
		return true
	}
	// The line of an inline command may be longer than any request of a client that has not
	// authenticated.
	size := min(2*len(c.in), max(c.limits().total, maxLine)+maxLine)
	more := int64(size - len(c.in))
	if !c.holder.Reserve(more, more, c.done) {
		return false
	}
	c.held += more
	in := make([]byte, size)
	copy(in, c.in[c.from:c.to])
	c.in, c.from, c.to = in, 0, have
	return true
}

// shrink gives the memory of a large request back.
func (c *conn) shrink() {
	if len(c.in) == smallBuffer {
		return
	}
	c.in = make([]byte, smallBuffer)
	c.holder.Release(c.held)
	c.held = 0
}

// flush sends the answers. It returns false if the connection has ended.
func (c *conn) flush() bool {
	out := &c.session.out
	if len(out.b) == 0 {
		return true
	}
	ok := true
	if c.feed.active() {
		c.feed.send(out.b)
	} else {
		ok = c.write(out.b, SlowReader)
	}
	c.session.flushed()
	return ok
}

// writeChunk is how many bytes a client has to take within Config.WriteTimeout.
const writeChunk = 64 << 10

// write writes b. A client that does not read for Config.WriteTimeout is closed for r.
func (c *conn) write(b []byte, r Reason) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	timeout := c.s.cfg.Load().WriteTimeout
	for len(b) > 0 {
		c.net.SetWriteDeadline(time.Now().Add(timeout))
		n, err := c.net.Write(b[:min(len(b), writeChunk)])
		c.s.out.Add(uint64(n))
		c.holder.Progress(n)
		b = b[n:]
		if err == nil {
			continue
		}
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			c.refuse(r)
		}
		c.close()
		return false
	}
	return true
}
