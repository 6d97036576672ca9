package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/forwarder/store"
	"zmtpd/zmtp/host"
	"zmtpd/zmtp/loglimit"
)

// Server answers clients of Redis. Its methods may be called from any goroutine.
type Server struct {
	stores  []*store.Store // by number of the database
	log     *slog.Logger
	limit   *loglimit.Limiter
	since   time.Time
	cfg     atomic.Pointer[Config] // with defaults
	cursors cursors
	events  events
	closing atomic.Bool // nothing more is read
	done    chan struct{}

	calls    []atomic.Uint64 // by command.id
	refused  [numReasons]atomic.Uint64
	accepted atomic.Uint64 // also the id of the last connection
	requests atomic.Uint64
	in, out  atomic.Uint64 // bytes
	pushed   atomic.Uint64 // keyspace events
	missed   atomic.Uint64 // changes of which there were no events

	mu        sync.Mutex
	listeners map[net.Listener]struct{} // guarded by mu
	conns     map[*conn]struct{}        // guarded by mu
	byAddress map[netip.Addr]int        // guarded by mu
	running   sync.WaitGroup            // added to with mu, unless closing
}

// maxLogged bounds the clients that the log names for one reason in a loglimit.Window.
const maxLogged = 20

// New returns a Server for stores. The first one is database 0, the next one database 1. It does
// not listen yet. The stores must stay open until the end of Shutdown.
func New(stores []*store.Store, cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		stores: stores, log: cfg.Logger, limit: loglimit.New(maxLogged), since: time.Now(),
		done: make(chan struct{}), calls: make([]atomic.Uint64, len(commands)),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
		byAddress: map[netip.Addr]int{},
	}
	s.cfg.Store(&cfg)
	s.events.s = s
	s.running.Go(s.watchAccess)
	return s
}

// Serve accepts clients from l, which it takes over. It does not block. It may be called several
// times.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		l.Close()
		return
	}
	s.listeners[l] = struct{}{}
	s.running.Go(func() { s.accept(l) })
}

// acceptPause is how long accepting pauses after an error, such as too many open files.
const acceptPause = 100 * time.Millisecond

func (s *Server) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed), s.closing.Load():
			if nc != nil {
				nc.Close()
			}
			return
		case err != nil:
			s.log.Warn("a Redis client cannot be accepted", "address", l.Addr(), "err", err)
			select {
			case <-time.After(acceptPause):
			case <-s.done:
				return
			}
		default:
			s.start(nc)
		}
	}
}

// start serves a connection, unless a limit is reached.
func (s *Server) start(nc net.Conn) {
	key := host.Of(nc.RemoteAddr())
	reason, ok := s.admit(key, nc)
	if ok {
		return
	}
	s.refuse(reason, nc.RemoteAddr().String(), "")
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	nc.Write([]byte("-ERR max number of clients reached\r\n"))
	nc.Close()
}

func (s *Server) admit(key netip.Addr, nc net.Conn) (Reason, bool) {
	cfg := s.cfg.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing.Load():
		nc.Close()
		return 0, true
	case cfg.MaxClients > 0 && len(s.conns) >= cfg.MaxClients:
		return TooManyClients, false
	case cfg.MaxClientsPerAddress > 0 && key.IsValid() &&
		s.byAddress[key] >= cfg.MaxClientsPerAddress:
		return TooManyPerAddress, false
	}
	if cfg.TLS != nil {
		nc = tls.Server(nc, cfg.TLS)
	}
	c := newConn(s, nc, key, s.accepted.Add(1))
	s.conns[c] = struct{}{}
	s.byAddress[key]++
	s.running.Go(c.serve)
	return 0, true
}

// leave forgets a connection.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.byAddress[c.key]--; s.byAddress[c.key] == 0 {
		delete(s.byAddress, c.key)
	}
}

// Reconfigure changes the limits and time-outs. The rest of cfg has no effect.
func (s *Server) Reconfigure(cfg Config) {
	cfg = cfg.withDefaults()
	now := *s.cfg.Load()
	now.MaxClients, now.MaxClientsPerAddress = cfg.MaxClients, cfg.MaxClientsPerAddress
	now.MaxRequest, now.MaxArguments, now.MaxReply = cfg.MaxRequest, cfg.MaxArguments, cfg.MaxReply
	now.QueueBytes, now.AuthTimeout, now.WriteTimeout = cfg.QueueBytes, cfg.AuthTimeout,
		cfg.WriteTimeout
	s.cfg.Store(&now)
}

// all returns the connections.
func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// Shutdown ends the Server in order: it accepts no more clients, carries out the requests that it
// has received, answers them and closes the connections. When ctx ends first, it cuts them.
// Shutdown returns when all goroutines have ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := s.closing.CompareAndSwap(false, true)
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	if first {
		close(s.done)
		s.events.stop()
	}
	for _, c := range s.all() {
		c.net.SetReadDeadline(time.Unix(1, 0))
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.all() {
		c.close()
	}
	<-ended
	return ctx.Err()
}

// accessInterval is how often it is checked whether clients may still be connected.
const accessInterval = time.Second

func (s *Server) watchAccess() {
	tick := time.NewTicker(accessInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.done:
			return
		}
		for _, c := range s.all() {
			if u := c.user.Load(); u != nil && !s.cfg.Load().Access.Current(u) {
				c.refuse(AccessChanged)
				c.close()
			}
		}
	}
}

// refuse counts a refusal and logs the first ones.
func (s *Server) refuse(r Reason, peer, client string) {
	s.refused[r].Add(1)
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = peer
	}
	if more, ok := s.limit.Admit(r.String(), host+" "+client); ok {
		attrs := []any{"reason", r, "peer", peer, "client", client}
		if more > 0 {
			attrs = append(attrs, "others", more)
		}
		s.log.Warn("Redis client or request refused", attrs...)
	}
}

// Stats are the counters of a Server since it was made, and its present state.
type Stats struct {
	Clients     int    // connections
	Subscribers int    // connections with subscriptions
	Accepted    uint64 // connections
	Requests    uint64
	BytesIn     uint64
	BytesOut    uint64
	Events      uint64            // keyspace events that were written for subscribers
	Missed      uint64            // changes that came too fast for keyspace events
	Refused     map[Reason]uint64 // connections and requests
	Commands    map[string]uint64 // by command
}

// Stats returns a snapshot of the counters.
func (s *Server) Stats() Stats {
	st := Stats{
		Accepted: s.accepted.Load(), Requests: s.requests.Load(), BytesIn: s.in.Load(),
		BytesOut: s.out.Load(), Events: s.pushed.Load(), Missed: s.missed.Load(),
		Subscribers: s.events.subscribers(), Refused: make(map[Reason]uint64, numReasons),
		Commands: map[string]uint64{},
	}
	s.mu.Lock()
	st.Clients = len(s.conns)
	s.mu.Unlock()
	for name, c := range commands {
		if n := s.calls[c.id].Load(); n > 0 {
			st.Commands[name] = n
		}
	}
	for r := range s.refused {
		st.Refused[Reason(r)] = s.refused[r].Load()
	}
	return st
}
