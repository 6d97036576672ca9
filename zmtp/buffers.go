package zmtp

import (
	"net"
	"syscall"
)

// control sets the receive buffer of a TCP socket before it listens or connects, as libzmq does.
// Later would be too late: the peer knows the window of the connection by then, and the kernel
// discards what the peer sends beyond one that has shrunk.
func (c *Config) control(_, _ string, raw syscall.RawConn) error {
	n := c.RecvBuffer
	if n <= 0 {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		setRecvBuffer(fd, n) // if the kernel refuses the size, the default is good enough
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
