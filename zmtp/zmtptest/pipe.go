package zmtptest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// DefaultBuffer is the default buffer size of a connection, in bytes for each direction.
const DefaultBuffer = 64 << 10

// Pipe returns the two ends of a connection in memory. Write waits while bufSize bytes are under
// way in its direction, [DefaultBuffer] if bufSize is not positive.
func Pipe(bufSize int) (*Conn, *Conn) {
	return newConns(bufSize, Addr("pipe:1"), Addr("pipe:2"))
}

func newConns(bufSize int, addr1, addr2 Addr) (*Conn, *Conn) {
	if bufSize <= 0 {
		bufSize = DefaultBuffer
	}
	l := &link{max: bufSize}
	l.changed.L = &l.mu
	a := &Conn{link: l, local: addr1, remote: addr2}
	b := &Conn{link: l, local: addr2, remote: addr1}
	a.peer, b.peer = b, a
	return a, b
}

// An Addr is the address of one end of a connection in memory.
type Addr string

// Network returns "memory".
func (Addr) Network() string { return "memory" }

// String returns the address that was given to Listen, or that Dial has made up.
func (a Addr) String() string { return string(a) }

// A link is the state that both ends of a connection share.
type link struct {
	max int

	mu      sync.Mutex
	changed sync.Cond // signals what a Read or Write may wait for
	cut     bool
}

// A Conn is one end of a connection in memory. It behaves like a TCP connection, with these
// differences: its buffer has an exact size, Write fails with EPIPE as soon as the other end is
// closed, and Close with unread bytes does not destroy those under way to the other end.
//
// A Conn may be used by several goroutines. Their writes may be interleaved if they do not fit the
// buffer. Errors are *net.OpError, as those of package net.
type Conn struct {
	link          *link
	peer          *Conn
	local, remote Addr

	// Guarded by link.mu.
	in         []byte // written by the peer and not yet read here
	closed     bool
	finished   bool // by CloseWrite
	stalled    bool // by Stall
	read, send deadline
}

var _ net.Conn = (*Conn)(nil)

// Read waits for at least one byte. It returns io.EOF when the other end has called Close or
// CloseWrite and everything that it wrote has been read.
func (c *Conn) Read(b []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case l.cut:
			return 0, c.fail("read", syscall.ECONNRESET)
		case c.read.passed():
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case c.stalled:
		case len(c.in) > 0:
			n := copy(b, c.in)
			c.in = c.in[n:]
			l.changed.Broadcast()
			return n, nil
		case c.peer.closed || c.peer.finished:
			return 0, io.EOF
		}
		l.changed.Wait()
	}
}

// Write waits until all of b fits the buffer of the connection. With an error it returns how many
// bytes did.
func (c *Conn) Write(b []byte) (n int, err error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return n, c.fail("write", net.ErrClosed)
		case l.cut:
			return n, c.fail("write", syscall.ECONNRESET)
		case c.finished || c.peer.closed:
			return n, c.fail("write", syscall.EPIPE)
		case c.send.passed():
			return n, c.fail("write", os.ErrDeadlineExceeded)
		}
		if room := min(l.max-len(c.peer.in), len(b)-n); room > 0 {
			c.peer.in = append(c.peer.in, b[n:n+room]...)
			n += room
			l.changed.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		l.changed.Wait()
	}
}

// Close closes this end. Reads and writes that wait here return net.ErrClosed. The other end can
// read what is under way, and then gets io.EOF. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.in = nil
	c.read.stop()
	c.send.stop()
	c.link.changed.Broadcast()
	return nil
}

// CloseWrite ends writing. The other end gets io.EOF when it has read what is under way. This end
// can still read.
func (c *Conn) CloseWrite() error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.finished = true
	c.link.changed.Broadcast()
	return nil
}

// Stall stops the delivery of bytes to this end, or resumes it. Meanwhile Read waits as if nothing
// had come, and the other end's Write waits once the buffer is full: so a stopped process looks to
// its peer.
func (c *Conn) Stall(on bool) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.stalled = on
	c.link.changed.Broadcast()
}

// Cut breaks the connection. Reads and writes at both ends fail with ECONNRESET from now on. What
// was under way is lost.
func (c *Conn) Cut() {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.link.cut = true
	c.in, c.peer.in = nil, nil
	c.link.changed.Broadcast()
}

// Peer returns the other end.
func (c *Conn) Peer() *Conn { return c.peer }

// Buffered returns the number of bytes that the other end has written and this one has not read.
func (c *Conn) Buffered() int {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return len(c.in)
}

// Ended reports whether the other end sends nothing more.
func (c *Conn) Ended() bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.peer.closed || c.peer.finished || c.link.cut
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the read and the write deadline. See net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(t, &c.read, &c.send) }

// SetReadDeadline sets the time at which Read fails with os.ErrDeadlineExceeded, also one that
// waits already.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.read) }

// SetWriteDeadline sets the time at which Write fails with os.ErrDeadlineExceeded, also one that
// waits already.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.send) }

func (c *Conn) setDeadline(t time.Time, deadlines ...*deadline) error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.set(t, c.link)
	}
	return nil
}

func (c *Conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// A deadline wakes the goroutines that wait on the link when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(t time.Time, l *link) {
	d.stop()
	d.at = t
	switch {
	case t.IsZero():
	case d.passed():
		l.changed.Broadcast()
	default:
		d.timer = time.AfterFunc(time.Until(t), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.changed.Broadcast()
		})
	}
}

// Unacknowledged returns the number of bytes that have been written at this end and not been read
// at the other. It is 0 once one of the ends is closed.
func (c *Conn) Unacknowledged() int {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return len(c.peer.in)
}
