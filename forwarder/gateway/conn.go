package gateway

import (
	"net"
	"net/netip"
	"sync"

	"zmtpd/zmtp/host"
)

// corked is a connection that can collect what is written, so that several frames need one system
// call.
type corked struct {
	net.Conn

	mu  sync.Mutex
	on  bool
	buf *[]byte // of corkBuffers while something is collected
}

// corkBuffer is the size of the buffers for what is collected. More is written at once.
const corkBuffer = 64 << 10

var corkBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, corkBuffer)
	return &b
}}

// cork starts to collect.
func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

// uncork writes what was collected.
func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	return c.flush()
}

// Write implements net.Conn.
func (c *corked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return c.Conn.Write(b)
	}
	if c.buf != nil && len(*c.buf)+len(b) > corkBuffer {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > corkBuffer/2 {
		if err := c.flush(); err != nil {
			return 0, err
		}
		return c.Conn.Write(b)
	}
	if c.buf == nil {
		c.buf = corkBuffers.Get().(*[]byte)
	}
	*c.buf = append(*c.buf, b...)
	return len(b), nil
}

// flush writes what was collected. The caller holds mu.
func (c *corked) flush() error {
	if c.buf == nil {
		return nil
	}
	_, err := c.Conn.Write(*c.buf)
	*c.buf = (*c.buf)[:0]
	corkBuffers.Put(c.buf)
	c.buf = nil
	return err
}

// listener accepts connections within the limits of a Gateway. It closes others at once.
type listener struct {
	net.Listener
	g *Gateway
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := host.Of(conn.RemoteAddr())
		if reason, ok := l.g.admit(key); !ok {
			l.g.refuse(reason, conn.RemoteAddr().String(), "")
			conn.Close()
			continue
		}
		return &admitted{Conn: conn, g: l.g, key: key}, nil
	}
}

// admitted is a connection that counts until it is closed.
type admitted struct {
	net.Conn
	g    *Gateway
	key  netip.Addr
	once sync.Once
}

func (a *admitted) Close() error {
	a.once.Do(func() { a.g.leave(a.key) })
	return a.Conn.Close()
}

// admit counts a connection, unless a limit is reached.
func (g *Gateway) admit(key netip.Addr) (Reason, bool) {
	cfg := g.cfg.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.connections >= cfg.MaxClients:
		return TooManyClients, false
	case g.byAddress[key] >= cfg.MaxClientsPerAddress:
		return TooManyPerAddress, false
	}
	g.connections++
	g.byAddress[key]++
	return 0, true
}

func (g *Gateway) leave(key netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.connections--
	if g.byAddress[key]--; g.byAddress[key] == 0 {
		delete(g.byAddress, key)
	}
}
