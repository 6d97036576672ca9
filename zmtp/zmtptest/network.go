package zmtptest

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// backlog is the number of connections that may wait for Accept before Dial waits itself.
const backlog = 128

// A Network is a set of addresses for connections in memory. The zero value is ready for use. All
// methods may be called from several goroutines.
type Network struct {
	// Buffer is the buffer size of new connections in bytes, as for [Pipe]. It must not be changed
	// after the first Dial. Default DefaultBuffer.
	Buffer int

	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[string][]*Conn // accepted or waiting to be, by listening address, oldest first
	lastPort  int                // the last that a listener or dialer was given
}

// Listen listens at addr, which may be any string that is not in use. A ":0" at its end is replaced
// by a new port number.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if host, ok := strings.CutSuffix(addr, ":0"); ok {
		addr = fmt.Sprintf("%s:%d", host, n.newPort())
	}
	if n.listeners[addr] != nil {
		return nil, &net.OpError{
			Op: "listen", Net: Addr("").Network(), Addr: Addr(addr), Err: syscall.EADDRINUSE,
		}
	}
	l := &listener{
		network: n, addr: Addr(addr), queue: make(chan *Conn, backlog), closed: make(chan struct{}),
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*listener)
	}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to addr. As with TCP it does not wait for Accept. It fails with ECONNREFUSED if
// nothing listens there.
func (n *Network) Dial(ctx context.Context, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: Addr("").Network(), Addr: Addr(addr), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	n.mu.Lock()
	l := n.listeners[addr]
	if l == nil {
		n.mu.Unlock()
		return fail(refused)
	}
	ours, theirs := newConns(n.Buffer, Addr(fmt.Sprintf("127.0.0.1:%d", n.newPort())), l.addr)
	if n.conns == nil {
		n.conns = make(map[string][]*Conn)
	}
	n.conns[addr] = append(dropClosed(n.conns[addr]), theirs)
	n.mu.Unlock()

	var err error
	select {
	case l.queue <- theirs:
		select {
		case <-l.closed: // Close may have emptied the queue already
			l.reset()
		default:
		}
		return ours, nil
	case <-l.closed:
		err = refused
	case <-ctx.Done():
		err = ctx.Err()
	}
	ours.Close()
	theirs.Close()
	return fail(err)
}

// Conns returns the listening ends of the connections to addr that are not closed at both ends,
// oldest first. A test can Stall or Cut connections with it that the code under test has made.
func (n *Network) Conns(addr string) []*Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[addr] = dropClosed(n.conns[addr])
	return slices.Clone(n.conns[addr])
}

func dropClosed(conns []*Conn) []*Conn {
	return slices.DeleteFunc(conns, func(c *Conn) bool {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		return c.closed && c.peer.closed
	})
}

// newPort returns a port number that no address of the Network has had. Caller holds n.mu.
func (n *Network) newPort() int {
	if n.lastPort == 0 {
		n.lastPort = 49151
	}
	n.lastPort++
	return n.lastPort
}

type listener struct {
	network *Network
	addr    Addr
	queue   chan *Conn // never closed
	once    sync.Once
	closed  chan struct{}
}

// Accept waits for the next connection. It returns net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
}

// Close frees the address and resets connections that were not accepted. Accepted ones stay.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
		close(l.closed)
		l.reset()
		err = nil
	})
	return err
}

func (l *listener) reset() {
	for {
		select {
		case c := <-l.queue:
			c.Cut()
			c.Close()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return l.addr }
