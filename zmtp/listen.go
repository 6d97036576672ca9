package zmtp

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"zmtpd/zmtp/host"
	"zmtpd/zmtp/wire"
)

// Pauses after a failed accept. It fails, for example, when the process has no descriptors left.
const (
	acceptPause    = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// Listen binds the socket to an endpoint and accepts connections in the background. It returns the
// endpoint with the address actually bound, for Unbind. It may be called several times. Endpoints
// are:
//
//   - tcp://address:port, where address is *, a name, an IPv4 or IPv6 address or a network
//     interface, and port may be * or 0 for an ephemeral one
//   - ipc://path, ipc://@name (abstract, Linux), ipc://* (a new path)
//   - inproc://name, for sockets of this process
//   - those of Config.Transports
//
// The error wraps ErrEndpoint if the endpoint is not well formed.
func (s *Socket) Listen(endpoint string) (bound string, err error) {
	l, bound, err := s.listen(endpoint)
	if err != nil {
		s.monitors.emit(Event{Type: EventBindFailed, Endpoint: endpoint, Err: err})
		return "", err
	}
	return s.serve(l, bound)
}

// Serve accepts connections from l until the socket ends or Unbind is called with the returned
// endpoint. It takes ownership of l and does not block.
func (s *Socket) Serve(l net.Listener) (bound string, err error) {
	return s.serve(l, servedEndpoint(l))
}

func (s *Socket) serve(l net.Listener, bound string) (string, error) {
	a := &attachment{endpoint: bound, listener: l}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	if err := s.attach(a, func() { s.acceptLoop(a) }); err != nil {
		a.cancel()
		l.Close()
		return "", err
	}
	s.monitors.emit(Event{Type: EventListening, Endpoint: bound, Local: l.Addr()})
	return bound, nil
}

// attach registers a and starts its goroutine.
func (s *Socket) attach(a *attachment, run func()) error {
	if err := s.cfg.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return ErrClosed
	}
	if a.once && s.connected(a.endpoint) {
		return errConnected
	}
	s.attachments[a] = struct{}{}
	s.limitQueue(a.outbox)
	s.wg.Go(run)
	return nil
}

func (s *Socket) listen(endpoint string) (net.Listener, string, error) {
	t, scheme, address, err := s.cfg.transport(endpoint)
	if err != nil {
		return nil, "", err
	}
	l, bound, err := t.Listen(s.ctx, address, &s.cfg)
	return l, scheme + "://" + bound, err
}

func (s *Socket) acceptLoop(a *attachment) {
	defer func() {
		a.listener.Close()
		s.monitors.emit(Event{Type: EventClosed, Endpoint: a.endpoint})
	}()
	pause := acceptPause
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			if a.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.monitors.emit(Event{Type: EventAcceptFailed, Endpoint: a.endpoint, Err: err})
			// The process has no descriptors left: a connection that is of no use may have one.
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				s.mu.Lock()
				s.makeRoom(netip.Addr{})
				s.mu.Unlock()
			}
			if pause == acceptPause {
				s.log.Warn("accept failed, trying again", "endpoint", a.endpoint, "stage", "accept",
					"err", err)
			}
			if !sleep(a.ctx, pause) {
				return
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = acceptPause
		s.monitors.emit(Event{Type: EventAccepted, Endpoint: a.endpoint, Local: conn.LocalAddr(),
			Remote: conn.RemoteAddr()})
		if s.start(func() { s.runAccepted(a, conn) }) != nil {
			conn.Close()
			return
		}
	}
}

// runAccepted runs an accepted connection, which is pending until its handshake is complete.
func (s *Socket) runAccepted(a *attachment, conn net.Conn) {
	s.tune(conn)
	s.mu.Lock()
	s.stats.Accepted++
	c := &pending{conn: conn, owner: a, address: host.Of(conn.RemoteAddr())}
	e := s.pend(c)
	if s.closing.Load() || a.ctx.Err() != nil {
		s.evict(e, wire.LocalClose)
	} else {
		s.count(c, e)
		if s.pending.Len() > s.cfg.MaxPendingHandshakes {
			s.evict(s.hog(), wire.HandshakeEvicted)
		}
	}
	s.mu.Unlock()
	s.runPeer(a, conn, e)
	s.mu.Lock()
	s.uncount(c)
	s.mu.Unlock()
}

// settle ends the time in which a connection is pending. It returns why the connection was closed
// meanwhile, nil if it was not.
func (s *Socket) settle(e *list.Element) error {
	if e == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpend(e)
	if c := e.Value.(*pending); c.reason != wire.ReasonNone {
		return &PeerClosedError{Reason: c.reason, Stage: "handshake", Err: c.detail}
	}
	return nil
}

// sleep waits for d, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
