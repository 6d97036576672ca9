package zmtp

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/internal/netsock"
	"zmtpd/zmtp/loglimit"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
)

// Socket is the part that all socket types share: listeners, connecters and peers. The types of
// this package embed one; NewSocket makes one for a Pattern of the caller.
type Socket struct {
	cfg      Config                 // with defaults, as it was made
	live     atomic.Pointer[Config] // cfg with what Reconfigure has changed; set under mu
	local    SocketType
	pattern  Pattern
	commands CommandHandler // pattern, nil if it takes no commands
	inbox    *inbox         // of patterns that receive, else nil
	balancer *loadBalancer  // of patterns that give each message to one peer, else nil
	log      *slog.Logger
	failures *loglimit.Limiter // of handshakes, by reason and address
	monitors monitors
	dropped  drops
	filtered atomic.Uint64
	memory   *memory.Holder // of messages that outlive their connection, nil without a budget
	nextID   atomic.Uint64

	// ctx ends when the socket gives up waiting for anything.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // all goroutines, see start

	mu          sync.Mutex
	closing     atomic.Bool   // nothing new is started; set under mu
	ended       chan struct{} // closed when all goroutines are gone
	watchers    watchers
	attachments map[*attachment]struct{}
	// connecters that have been disconnected and still send what is queued
	leaving     map[*attachment]struct{}
	peers       map[*Peer]struct{}
	pending     list.List          // of *pending: accepted, handshake not complete, oldest first
	pendingBy   map[netip.Addr]int // how many of them each address has
	connections connections
	loud        map[Reason]time.Time // when the end of a peer was last logged as a warning
	stats       Stats                // of peers that are gone, and the counters of connections
	homeless    int                  // messages without a peer that end dropped; set before ended
}

// attachment is a listener or a connecter.
type attachment struct {
	endpoint string       // as given to Connect or returned by Listen
	listener net.Listener // nil for a connecter
	outbox   *outbox      // of a connecter that keeps its queue between connections, else nil
	tag      any          // what the pattern knows a connecter by, set by connect
	once     bool         // a connecter that is not needed if there is one to the same endpoint
	ctx      context.Context
	cancel   context.CancelFunc

	past EndpointStats // of its connections that have ended; guarded by Socket.mu
}

// peerFloor is the memory of an idle connection in bytes: two goroutines, buffers, and entries in
// tables.
const peerFloor = 32 << 10

// NewSocket makes a socket of the given type whose behaviour is that of pattern.
func NewSocket(local SocketType, pattern Pattern, cfg Config) *Socket {
	s := &Socket{
		cfg: cfg.withDefaults(), local: local, pattern: pattern,
		ended:       make(chan struct{}),
		attachments: make(map[*attachment]struct{}),
		leaving:     make(map[*attachment]struct{}),
		peers:       make(map[*Peer]struct{}),
	}
	s.commands, _ = pattern.(CommandHandler)
	s.live.Store(&s.cfg)
	s.log, s.failures = s.cfg.Logger.With("socket", string(local)), loglimit.New(maxFailureLines)
	s.stats.HandshakeFailures = make(map[wire.Reason]uint64)
	s.stats.Closed = make(map[wire.Reason]uint64)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.memory = s.cfg.Memory.NewHolder("messages", 0, nil)
	return s
}

// Type returns the socket's type.
func (s *Socket) Type() SocketType { return s.local }

// wrongState returns the error for a call that a REQ or REP does not allow now: ErrState, or after
// the end of the socket ErrClosed.
func (s *Socket) wrongState() error {
	if s.closing.Load() {
		return ErrClosed
	}
	return ErrState
}

// start runs f on a goroutine of the socket, or returns ErrClosed when the end has begun. All
// goroutines for which Shutdown waits start here or in attach.
func (s *Socket) start(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return ErrClosed
	}
	s.wg.Go(f)
	return nil
}

// Shutdown closes the socket in order. It stops listening and connecting, sends what is queued, and
// closes its end of each connection. It reads what the peers have sent until they close their ends,
// as libzmq and this package do at once. The application must go on receiving meanwhile; after the
// last message Recv returns ErrClosed.
//
// ctx is the linger period. Until it ends, Shutdown waits for each peer: until it has closed its
// end, or until its host has acknowledged everything and it has been silent for 2 s. Linux, FreeBSD
// and macOS tell what was acknowledged; on other systems Shutdown waits until a peer to which
// messages were sent closes its end. When ctx ends first, the rest is dropped and counted, and the
// error is a [*LingerError].
//
// A Push whose messages may still go to another peer, since theirs was lost or may be, goes on to
// listen and connect until they are sent.
//
// Shutdown returns when all goroutines of the socket are gone. It may be called more than once.
func (s *Socket) Shutdown(ctx context.Context) error {
	if s.balancer != nil {
		s.balancer.finish(ctx, s.ctx)
	}
	s.mu.Lock()
	first := !s.closing.Swap(true)
	for a := range s.attachments {
		a.stop()
	}
	for p := range s.peers {
		p.finish()
	}
	s.mu.Unlock()
	s.watchers.open() // a send returns ErrClosed now
	if first {
		go s.end() // ends with the last goroutine of the socket
	}
	select {
	case <-s.ended:
		if s.homeless == 0 {
			return nil
		}
		return &LingerError{Dropped: uint64(s.homeless), Err: context.Cause(ctx)}
	case <-ctx.Done():
	}
	e := &LingerError{Err: context.Cause(ctx)}
	before := s.dropped.load().Total()
	e.Unacknowledged = s.abort()
	<-s.ended
	e.Dropped = s.dropped.load().Total() - before
	return e
}

// Close is Shutdown without waiting: what is queued in either direction is dropped and counted.
func (s *Socket) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if s.inbox != nil {
		s.discardInbox()
	}
	return nil
}

// end waits for the goroutines and cleans up.
func (s *Socket) end() {
	s.wg.Wait()
	s.cancel()
	if s.inbox != nil {
		s.inbox.finished()
	}
	if s.balancer != nil {
		s.homeless = s.balancer.discard()
		s.drop(DropClosed, s.homeless)
	}
	s.monitors.close()
	s.memory.Close() // batches that the application has count until they are released
	close(s.ended)
	s.watchers.open()
}

// abort ends everything for which Shutdown waits. It returns how many bytes the hosts of the peers
// have not acknowledged.
func (s *Socket) abort() (unsent int) {
	s.cancel()
	if s.inbox != nil {
		s.discardInbox()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.attachments {
		a.cancel()
	}
	for p := range s.peers {
		_, n, _ := netsock.Queued(p.conn)
		unsent += n
		p.fail(&PeerClosedError{Reason: wire.LocalClose, Stage: "traffic", Err: ErrClosed})
	}
	return unsent
}

func (s *Socket) discardInbox() {
	s.drop(DropClosed, s.inbox.discard())
}

// stop ends a listener, or a connecter once nothing is queued for it.
func (a *attachment) stop() {
	switch {
	case a.listener != nil:
		a.cancel()
		a.listener.Close()
	case a.outbox == nil:
		a.cancel()
	default:
		a.outbox.close(false)
		if a.outbox.empty() {
			a.cancel()
		}
	}
}

// Unbind stops listening on an endpoint, as returned by Listen, and closes the connections that it
// has accepted. It does not wait for them.
func (s *Socket) Unbind(endpoint string) error { return s.detach(endpoint, true) }

// Disconnect ends the connection to an endpoint, as given to Connect, once everything that is
// queued for it was sent. It does not wait for that. Of several connections to one endpoint it ends
// one.
func (s *Socket) Disconnect(endpoint string) error { return s.detach(endpoint, false) }

func (s *Socket) detach(endpoint string, listener bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return ErrClosed
	}
	for a := range s.attachments {
		if a.endpoint != endpoint || (a.listener != nil) != listener {
			continue
		}
		delete(s.attachments, a)
		if !listener {
			s.leaving[a] = struct{}{}
		}
		a.stop()
		for p := range s.peers {
			if p.owner == a {
				p.finish()
			}
		}
		return nil
	}
	return ErrNoEndpoint
}

// Endpoints returns the endpoints on which the socket listens, with the addresses actually bound.
func (s *Socket) Endpoints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for a := range s.attachments {
		if a.listener != nil {
			all = append(all, a.endpoint)
		}
	}
	return all
}

// evict closes a pending connection and removes it from the list, as its goroutine may notice only
// later. Caller holds s.mu.
func (s *Socket) evict(e *list.Element, r Reason) {
	c := e.Value.(*pending)
	s.unpend(e)
	c.reason = r
	s.uncount(c)
	c.conn.Close()
}

// runPeer runs a connection until its end. e is its entry among the pending ones if it was
// accepted. up reports whether the handshake was completed, err is why the connection ended.
func (s *Socket) runPeer(a *attachment, conn net.Conn, e *list.Element) (up bool, err error) {
	id := s.nextID.Add(1)
	if r, ok := a.tag.(*route[uint64]); ok {
		id = r.id
	}
	p := &Peer{
		socket: s, id: id, owner: a, conn: conn, outbox: a.outbox,
		parked: a.outbox != nil,
		done:   make(chan struct{}), closed: make(chan struct{}), over: make(chan struct{}),
	}
	if e != nil {
		p.accepted = e.Value.(*pending)
	}
	p.memory = s.cfg.Memory.NewHolder("connections", peerFloor, func(err error) {
		p.fail(&PeerClosedError{Reason: wire.MemoryExhausted, Stage: "traffic", Err: err})
	})
	defer p.memory.Close()
	event := Event{Endpoint: a.endpoint, Local: conn.LocalAddr(), Remote: conn.RemoteAddr()}
	first, err := s.handshake(p)
	if evicted := s.settle(e); evicted != nil {
		err = evicted
	}
	if err == nil {
		err = s.admit(p)
	}
	if err != nil {
		conn.Close()
		s.handshakeFailed(event, a, err)
		return false, err
	}
	event.Type = EventHandshakeSucceeded
	s.monitors.emit(event)
	s.log.Debug("peer connected", "endpoint", a.endpoint, "peer", conn.RemoteAddr(), "type",
		p.SocketType())

	if _, out := p.handsOver(); out != nil {
		p.outbox.referFrom(handOverSize)
	}
	p.publishInlet()
	var writer sync.WaitGroup
	writer.Go(p.writeLoop)
	p.heart.start(p)
	p.fail(p.readLoop(first)) // unless something else has ended the connection
	if s.inbox != nil {
		s.inbox.closePipe(&p.inPipe)
	}
	p.heart.stop()
	close(p.over)
	writer.Wait()
	if r := reasonOf(p.cause); r == wire.MessageTooLarge || r == wire.TooManyParts {
		s.drop(DropTooLarge, 1)
	}
	s.retire(p)
	s.pattern.Detach(p, p.cause)

	event.Type, event.Err = EventDisconnected, p.cause
	s.monitors.emit(event)
	s.log.Log(context.Background(), s.levelOf(reasonOf(p.cause)), "peer disconnected", "endpoint",
		a.endpoint, "peer", conn.RemoteAddr(), "reason", reasonOf(p.cause), "err", p.cause)
	return true, p.cause
}

// loudInterval is how often a warning is logged that peers are closed for a limit of the process.
const loudInterval = time.Minute

// levelOf returns the level at which the end of a peer for reason r is logged.
func (s *Socket) levelOf(r Reason) slog.Level {
	switch r {
	case wire.MessageTooLarge, wire.TooManyParts:
		return slog.LevelWarn // a message is lost
	case wire.MemoryExhausted, wire.TooManyConnections:
	default:
		return slog.LevelDebug
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.loud[r]; ok && now.Sub(last) < loudInterval {
		return slog.LevelDebug // the others are in the counters
	}
	if s.loud == nil {
		s.loud = make(map[Reason]time.Time)
	}
	s.loud[r] = now
	return slog.LevelWarn // the peer may be honest and have lost messages
}

// admit adds p to the peers.
func (s *Socket) admit(p *Peer) error {
	p.since = time.Now()
	if p.outbox == nil {
		live := s.live.Load()
		p.outbox = newOutbox(live.SendHWM, live.SendBytes, p.memory)
		if s.conflates(PUSH, PUB, XPUB, DEALER, RADIO, SCATTER) {
			p.outbox.conflate(func(n int) { p.Drop(DropReplaced, n) })
		}
	}
	if err := s.pattern.Attach(p); err != nil {
		return &PeerClosedError{Reason: wire.Rejected, Stage: "handshake", Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Handshakes++
	s.peers[p] = struct{}{}
	s.limitQueue(p.outbox)
	if s.ctx.Err() != nil {
		p.fail(&PeerClosedError{Reason: wire.LocalClose, Stage: "traffic", Err: ErrClosed})
	} else if s.closing.Load() || p.owner.ctx.Err() != nil {
		p.finish()
	}
	return nil
}

// conflates reports whether the socket keeps only the last messages, which those of the given types
// do if they are configured to.
func (s *Socket) conflates(types ...SocketType) bool {
	return s.cfg.Conflate && slices.Contains(types, s.local)
}

// retire removes p from the peers and keeps its counts.
func (s *Socket) retire(p *Peer) {
	p.stopSending()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
	s.stats.In.Add(p.in.load())
	if !p.parked {
		s.stats.addOutbox(p.outbox)
	}
	p.owner.past.add(p)
	s.stats.Closed[reasonOf(p.cause)]++
}

func (s *Socket) handshakeFailed(event Event, a *attachment, err error) {
	r := reasonOf(err)
	s.mu.Lock()
	s.stats.HandshakeFailures[r]++
	s.mu.Unlock()
	event.Type, event.Value = failure(err)
	event.Err = err
	s.monitors.emit(event)
	event.Type, event.Value = EventDisconnected, 0
	s.monitors.emit(event)
	attrs := []any{"endpoint", a.endpoint, "peer", event.Remote, "stage", "handshake", "reason", r,
		"err", err}
	level := slog.LevelDebug
	if _, logged := errors.AsType[*loggedError](err); !logged && r != wire.LocalClose {
		// A peer that is refused tries again for ever, so each address and reason is rationed.
		if others, ok := s.failures.Admit(r.String(), hostOf(event.Remote)); ok {
			level = slog.LevelWarn
			if others > 0 {
				attrs = append(attrs, "others", others)
			}
		}
	}
	s.log.Log(context.Background(), level, "handshake failed", attrs...)
}

// maxFailureLines is how many addresses are logged for one reason in a [loglimit.Window].
const maxFailureLines = 5

// hostOf returns the address of a peer without its port.
func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	if a == nil {
		return ""
	}
	return a.String()
}
