package zmtp

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
)

// Connect connects the socket to an endpoint, in the background, and again whenever the connection
// is lost. There need not be a listener yet. Connect fails only for an endpoint that can never
// work. A Dealer, Pub, Req or Sub ignores a second Connect to the same text, as in libzmq; other
// sockets make a second connection. Endpoints are tcp://host:port, tcp://source:port;host:port,
// ipc://path, ipc://@name, inproc://name, and those of Config.Transports.
func (s *Socket) Connect(endpoint string) error {
	if s.balancer.full() {
		return errSecondPeer
	}
	ob := s.balancer.park(s.live.Load())
	if ob != nil && s.conflates(PUSH, DEALER, SCATTER) {
		ob.conflate(func(n int) { s.drop(DropReplaced, n) })
	}
	err := s.connect(endpoint, ob, nil)
	switch {
	case err == errConnected:
		return nil
	case err == nil && ob != nil && !s.balancer.add(newOutPipe(ob, endpoint, true)):
		s.Disconnect(endpoint)
		return errSecondPeer
	}
	return err
}

// singleConnect are the types whose second Connect to an endpoint is ignored (libzmq,
// socket_base.cpp, connect_internal).
var singleConnect = []SocketType{DEALER, SUB, PUB, REQ}

// connect is Connect with an outbox that outlives each connection, or nil, and with what the
// pattern knows the endpoint by. It returns errConnected if it has done nothing.
func (s *Socket) connect(text string, ob *outbox, tag any) error {
	t, _, address, err := s.cfg.transport(text)
	if err != nil {
		return err
	}
	dial, err := t.Dialer(address, &s.cfg)
	if err != nil {
		return err
	}
	a := &attachment{endpoint: text, outbox: ob, tag: tag,
		once: slices.Contains(singleConnect, s.local)}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	err = s.attach(a, func() {
		s.connectLoop(a, func(ctx context.Context) (net.Conn, error) {
			if s.cfg.ConnectTimeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, s.cfg.ConnectTimeout)
				defer cancel()
			}
			return dial(ctx)
		})
	})
	if err != nil {
		a.cancel()
	}
	return err
}

// errConnected is what attach returns for a second Connect that is ignored.
var errConnected = errors.New("zmtp: connected already")

// connected reports whether the socket has this endpoint. Caller holds s.mu.
func (s *Socket) connected(endpoint string) bool {
	for a := range s.attachments {
		if a.endpoint == endpoint {
			return true
		}
	}
	return false
}

// connectLoop keeps one connection up. The pause between attempts doubles until a handshake is
// complete: a peer that accepts and closes is no better than none.
func (s *Socket) connectLoop(a *attachment, dial func(context.Context) (net.Conn, error)) {
	defer s.giveUp(a)
	pause := s.cfg.ReconnectInterval
	level := slog.LevelInfo // of the first failure in a row; further ones are for debugging
	for {
		s.monitors.emit(Event{Type: EventConnectDelayed, Endpoint: a.endpoint})
		stop := false
		conn, err := dial(a.ctx)
		if err != nil {
			s.monitors.emit(Event{Type: EventClosed, Endpoint: a.endpoint, Err: err})
			if a.ctx.Err() == nil {
				s.log.Log(a.ctx, level, "cannot connect, trying again", "endpoint", a.endpoint,
					"stage", "connect", "err", err)
				level = slog.LevelDebug
			}
			stop = s.cfg.ReconnectStop&StopConnRefused != 0 && errors.Is(err, syscall.ECONNREFUSED)
		} else {
			s.tune(conn)
			s.mu.Lock()
			s.stats.Connected++
			s.mu.Unlock()
			s.monitors.emit(Event{Type: EventConnected, Endpoint: a.endpoint,
				Local: conn.LocalAddr(), Remote: conn.RemoteAddr()})
			var up bool
			up, err = s.runPeer(a, conn, nil)
			if reasonOf(err).Protocol() && !s.cfg.RetryAlways {
				s.log.Warn("endpoint given up, it is not tried again", "endpoint", a.endpoint,
					"reason", reasonOf(err), "err", err)
				return
			}
			stop = s.cfg.ReconnectStop&StopHandshakeFailed != 0 && !up
			if up {
				pause, level = s.cfg.ReconnectInterval, slog.LevelInfo
			}
		}
		if a.ctx.Err() != nil || s.nothingLeft(a) || stop || pause < 0 {
			return
		}
		wait := pause + rand.N(pause/2+1)
		pause = min(2*pause, max(s.cfg.ReconnectMax, s.cfg.ReconnectInterval))
		s.monitors.emit(Event{Type: EventConnectRetried, Endpoint: a.endpoint, Interval: wait,
			Err: err})
		if !sleep(a.ctx, wait) {
			return
		}
	}
}

// nothingLeft reports whether a connecter that is being closed has sent what was queued.
func (s *Socket) nothingLeft(a *attachment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, wanted := s.attachments[a]
	if wanted && !s.closing.Load() {
		return false
	}
	return a.outbox == nil || a.outbox.empty()
}

// giveUp ends a connecter; what is still queued for it is lost.
func (s *Socket) giveUp(a *attachment) {
	a.cancel()
	s.mu.Lock()
	delete(s.attachments, a)
	delete(s.leaving, a)
	if a.outbox != nil {
		s.drop(DropClosed, a.outbox.close(true))
		s.stats.addOutbox(a.outbox)
	}
	s.mu.Unlock()
	s.monitors.emit(Event{Type: EventClosed, Endpoint: a.endpoint})
}
