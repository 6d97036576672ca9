package zmtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"zmtpd/zmtp/wire"
)

// inprocTransport is libzmq's inproc: sockets of one process, which find each other by a name that
// one listener at a time has. A connection may be made before the name is bound.
//
// The ends exchange no greeting. They run the handshake of their mechanism, unlike libzmq, which
// has no security within a process. Behind it, unless the mechanism protects the traffic, a sender
// queues its messages in the inbox of the receiving socket, see direct.go, or the read loop gets
// the memory of the other end's queue, see handover.go.
type inprocTransport struct{}

// inprocNames are the names that are bound in this process, or waited for.
var inprocNames = struct {
	mu     sync.Mutex
	byName map[string]*inprocName
}{byName: make(map[string]*inprocName)}

// inprocName is guarded by inprocNames.mu.
type inprocName struct {
	listener *inprocListener // nil while the name is not bound
	bound    gate            // when it is bound
	users    int             // the listener, and attempts to connect
}

// useInproc calls f for a name, as one more user of it.
func useInproc(name string, f func(*inprocName)) *inprocName {
	inprocNames.mu.Lock()
	defer inprocNames.mu.Unlock()
	n := inprocNames.byName[name]
	if n == nil {
		n = new(inprocName)
		inprocNames.byName[name] = n
	}
	n.users++
	f(n)
	return n
}

// leaveInproc calls f for a name that has one user less.
func leaveInproc(name string, f func(*inprocName)) {
	inprocNames.mu.Lock()
	defer inprocNames.mu.Unlock()
	n := inprocNames.byName[name]
	f(n)
	if n.users--; n.users == 0 {
		delete(inprocNames.byName, name)
	}
}

func checkInproc(name string) error {
	if name == "" {
		return endpointError("inproc://", "want inproc://name")
	}
	return nil
}

// Listen implements Transport.
func (inprocTransport) Listen(_ context.Context, name string, _ *Config) (net.Listener, string,
	error) {
	if err := checkInproc(name); err != nil {
		return nil, "", err
	}
	l := &inprocListener{name: inprocAddr(name), dialed: make(chan *inprocConn),
		closed: make(chan struct{})}
	taken := false
	useInproc(name, func(n *inprocName) {
		if taken = n.listener != nil; !taken {
			n.listener = l
			n.bound.open()
		}
	})
	if taken {
		leaveInproc(name, func(*inprocName) {})
		return nil, "", fmt.Errorf("zmtp: inproc://%s: %w", name, syscall.EADDRINUSE)
	}
	return l, name, nil
}

// Dialer implements Transport. An attempt waits until the name is bound.
func (inprocTransport) Dialer(name string, _ *Config) (func(context.Context) (net.Conn, error),
	error) {
	if err := checkInproc(name); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		n := useInproc(name, func(*inprocName) {})
		defer leaveInproc(name, func(*inprocName) {})
		for {
			bound := n.bound.wait()
			inprocNames.mu.Lock()
			l := n.listener
			inprocNames.mu.Unlock()
			if l != nil {
				here, there := newInprocConns(name)
				select {
				case l.dialed <- there:
					return here, nil
				case <-l.closed:
					continue
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			select {
			case <-bound:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}, nil
}

type inprocListener struct {
	name   inprocAddr
	dialed chan *inprocConn
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *inprocListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialed:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *inprocListener) Close() error {
	l.once.Do(func() {
		leaveInproc(string(l.name), func(n *inprocName) { n.listener = nil })
		close(l.closed)
	})
	return nil
}

// Addr implements net.Listener.
func (l *inprocListener) Addr() net.Addr { return l.name }

// inprocAddr is the name of an inproc endpoint.
type inprocAddr string

// Network implements net.Addr.
func (inprocAddr) Network() string { return "inproc" }

// String implements net.Addr.
func (a inprocAddr) String() string { return string(a) }

// inprocConn is one end of a connection within the process. It is a Session and a QueuedConn.
type inprocConn struct {
	name    inprocAddr
	in, out *inprocPipe
}

func newInprocConns(name string) (a, b *inprocConn) {
	there, back := newInprocPipe(), newInprocPipe()
	return &inprocConn{inprocAddr(name), back, there}, &inprocConn{inprocAddr(name), there, back}
}

// Open implements Session.
func (c *inprocConn) Open(ctx context.Context, mechanism string) (t SessionTraits, err error) {
	c.out.mechanism <- mechanism
	select {
	case other := <-c.in.mechanism:
		if other != mechanism {
			return t, wire.Errorf(wire.MechanismMismatch, "the peer has %q, this side %q", other,
				mechanism)
		}
		return t, nil
	case <-ctx.Done():
		return t, ctx.Err()
	}
}

// Read implements net.Conn.
func (c *inprocConn) Read(b []byte) (int, error) { return c.in.read(b) }

// Write implements net.Conn.
func (c *inprocConn) Write(b []byte) (int, error) { return c.out.write(b) }

// CloseWrite ends what this end writes. It can still read.
func (c *inprocConn) CloseWrite() error {
	c.out.set(func(p *inprocPipe) { p.ended = true })
	return nil
}

// Close implements net.Conn.
func (c *inprocConn) Close() error {
	c.CloseWrite()
	c.out.set(func(p *inprocPipe) { p.writerGone = true })
	c.in.set(func(p *inprocPipe) { p.readerGone = true })
	return nil
}

// Buffered implements QueuedConn.
func (c *inprocConn) Buffered() int { return c.in.unread() }

// Unacknowledged implements QueuedConn.
func (c *inprocConn) Unacknowledged() int { return c.out.unread() }

// Ended implements QueuedConn.
func (c *inprocConn) Ended() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.ended
}

// LocalAddr implements net.Conn.
func (c *inprocConn) LocalAddr() net.Addr { return c.name }

// RemoteAddr implements net.Conn.
func (c *inprocConn) RemoteAddr() net.Addr { return c.name }

// SetDeadline implements net.Conn.
func (c *inprocConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *inprocConn) SetReadDeadline(t time.Time) error {
	c.in.set(func(p *inprocPipe) { p.readUntil = t })
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *inprocConn) SetWriteDeadline(t time.Time) error {
	c.out.set(func(p *inprocPipe) { p.writeUntil = t })
	return nil
}

const (
	// inprocBuffer is how many bytes of small writes a pipe holds, so that they need not wait for
	// the reader.
	inprocBuffer = 64 << 10
	// inprocSmall is the largest write that is small. Larger ones wait, and are copied only once.
	inprocSmall = 4 << 10
)

// inprocPipe is one direction of a connection. It has one reader and one writer.
type inprocPipe struct {
	mechanism chan string // of the end that writes
	inlet     chan *Peer  // of the end that reads, nil if messages go through the pipe
	changed   gate        // anything below has changed

	mu                    sync.Mutex
	buffer                []byte  // of small writes, not read yet
	offer                 []byte  // what is left of the write that waits
	chunks                []chunk // what is left of those that are handed over
	ended                 bool    // nothing more is written
	writerGone            bool    // the end that writes is closed
	readerGone            bool    // the end that reads is closed
	readUntil, writeUntil time.Time
}

func newInprocPipe() *inprocPipe {
	return &inprocPipe{mechanism: make(chan string, 1), inlet: make(chan *Peer, 1)}
}

// set changes the pipe and wakes those that wait.
func (p *inprocPipe) set(f func(*inprocPipe)) {
	p.mu.Lock()
	f(p)
	p.mu.Unlock()
	p.changed.open()
}

// wait waits until something has changed or until the deadline. Caller holds the lock, which wait
// gives back meanwhile.
func (p *inprocPipe) wait(until time.Time) {
	changed := p.changed.wait()
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (p *inprocPipe) read(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readerGone:
			return 0, net.ErrClosed
		case passed(p.readUntil):
			return 0, os.ErrDeadlineExceeded
		case len(p.buffer) > 0:
			n = copy(b, p.buffer)
			p.buffer = p.buffer[:copy(p.buffer, p.buffer[n:])]
			p.changed.open()
			return n, nil
		case len(p.offer) > 0:
			n = copy(b, p.offer)
			p.offer = p.offer[n:]
			p.changed.open()
			return n, nil
		case p.ended:
			return 0, io.EOF
		}
		p.wait(p.readUntil)
	}
}

func (p *inprocPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offer = b
	for len(p.offer) > 0 && err == nil {
		switch {
		case p.writerGone:
			err = net.ErrClosed
		case p.ended, p.readerGone:
			err = syscall.EPIPE
		case passed(p.writeUntil):
			err = os.ErrDeadlineExceeded
		case len(p.offer) <= inprocSmall && len(p.buffer)+len(p.offer) <= inprocBuffer:
			p.buffer = append(p.buffer, p.offer...)
			p.offer = nil
			p.changed.open()
		default:
			p.changed.open()
			p.wait(p.writeUntil)
		}
	}
	n = len(b) - len(p.offer)
	p.offer = nil
	return n, err
}

// unread returns how many bytes were written and not read.
func (p *inprocPipe) unread() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.buffer) + len(p.offer)
	for _, c := range p.chunks {
		n += len(c.b)
	}
	return n
}
