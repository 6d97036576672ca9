package zmtp

import (
	"net"
	"syscall"

	"zmtpd/zmtp/internal/netsock"
)

// QueuedConn is a connection that knows how much is under way on it, and whose Write can be
// continued after a timeout. Connections of other kinds than those of package net and crypto/tls
// should implement it: Socket.Shutdown uses it, and long writes count their progress.
type QueuedConn interface {
	net.Conn
	// Buffered returns how many bytes the other end has written that have not been read.
	Buffered() int
	// Unacknowledged returns how many bytes of those that were written have not arrived at the
	// other end.
	Unacknowledged() int
	// Ended reports whether the other end has closed its direction, or the connection: then what is
	// left to read is what Buffered says.
	Ended() bool
}

// control sets the receive buffer of a TCP socket before it listens or connects, as libzmq does.
// Later would be too late: the peer knows the window of the connection by then, and the kernel
// discards what the peer sends beyond one that has shrunk.
func (c *Config) control(_, _ string, raw syscall.RawConn) error {
	n := c.RecvBuffer
	if n <= 0 {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		netsock.SetRecvBuffer(fd, n)
	})
}

// tune sets the buffers of a connection that can be set now.
func (s *Socket) tune(conn net.Conn) {
	if c, ok := conn.(interface{ SetWriteBuffer(int) error }); ok && s.cfg.SendBuffer > 0 {
		c.SetWriteBuffer(s.cfg.SendBuffer)
	}
	if c, ok := conn.(*net.UnixConn); ok && s.cfg.RecvBuffer > 0 {
		c.SetReadBuffer(s.cfg.RecvBuffer)
	}
}
