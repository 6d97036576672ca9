package ws

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"

	"zmtpd/zmtp"
	"zmtpd/zmtp/ws/frame"
)

// readBuffer is the size in bytes of the buffer that each connection has for headers and small
// frames.
const readBuffer = 4 << 10

// conn is one end of a connection. It is a [zmtp.Session].
type conn struct {
	net.Conn          // TCP
	stream   net.Conn // on which WebSocket runs: TCP or TLS
	shake    func(ctx context.Context, c *conn, mechanism string) error
	r        reader
	w        writer
	pings    pings

	mu     sync.Mutex // of w
	closed bool       // nothing more is written
}

// newConn returns a connection that becomes a WebSocket in Open, by means of shake.
func newConn(raw net.Conn, shake func(context.Context, *conn, string) error) *conn {
	c := &conn{Conn: raw, stream: raw, shake: shake}
	c.r.pings, c.w.pings = &c.pings, &c.pings
	return c
}

// secure makes a TLS connection of c, which it has just been.
func (c *conn) secure(ctx context.Context, t *tls.Conn) error {
	c.stream = t
	return t.HandshakeContext(ctx)
}

// start begins to read and write WebSocket frames. in has read the handshake.
func (c *conn) start(in *bufio.Reader, client bool, protocol string) {
	bare := protocol == bareProtocol
	c.r.in, c.r.masked, c.r.bare = in, !client, bare
	c.w.out, c.w.mask, c.w.bare = c.stream, client, bare
	if _, ok := c.stream.(*tls.Conn); ok {
		c.w.out = records{c.stream}
	}
}

// maxRecord is the largest payload of a TLS record that is written. libzmq reads 8192 bytes at a
// time. It would not read the rest of a larger record before the next one arrives (options.cpp,
// in_batch_size; wss_engine.cpp, read).
const maxRecord = 8192

// records writes to a TLS connection, which makes at least one record of each Write.
type records struct{ conn io.Writer }

// Write implements io.Writer.
func (r records) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, maxRecord) {
		m, err := r.conn.Write(piece)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Open implements zmtp.Session.
func (c *conn) Open(ctx context.Context, mechanism string) (zmtp.SessionTraits, error) {
	// libzmq knows no other form of subscriptions and heartbeats (ws_engine.cpp,
	// process_command_message).
	return zmtp.SessionTraits{SubscriptionMessages: true, OpenHeartbeats: true},
		c.shake(ctx, c, mechanism)
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) { return c.r.Read(b) }

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	return c.w.Write(b)
}

// CloseWrite sends a close frame behind what was written, and closes this end.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.w.out == nil {
		return nil
	}
	c.closed = true
	if c.w.between() {
		c.w.buf = c.w.buf[:0]
		c.w.control(frame.Close, []byte{closeNormal >> 8, closeNormal & 0xff})
		if _, err := c.stream.Write(c.w.buf); err != nil {
			return err
		}
	}
	return closeWrite(c.stream)
}

// NetConn returns the TCP connection, as that of *tls.Conn does: package zmtp asks it what is under
// way.
func (c *conn) NetConn() net.Conn { return c.Conn }

// closeWrite closes this end of conn if that can be done.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
