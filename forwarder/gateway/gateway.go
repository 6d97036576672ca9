package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"zmtpd/forwarder"
	"zmtpd/zmtp/loglimit"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/topics"
)

// Gateway serves WebSocket clients of a Forwarder. Its methods may be called from any goroutine.
type Gateway struct {
	// Static.
	log     *slog.Logger
	limit   *loglimit.Limiter
	local   *forwarder.Local
	node    string         // node ids of clients begin with it
	holder  *memory.Holder // of the frames
	server  *http.Server
	files   files
	polling sync.Mutex      // held by Poll
	ctx     context.Context // ends with the Gateway
	cancel  context.CancelFunc
	readers sync.WaitGroup // of the clients
	writers sync.WaitGroup // of the clients; readers and loops add to it
	helpers sync.WaitGroup // see spawn
	loops   sync.WaitGroup // the goroutines of the Gateway

	cfg      atomic.Pointer[Config] // with defaults
	accounts *accounts
	refused  [numReasons]atomic.Uint64 // connections and what clients sent
	dropped  [numReasons]atomic.Uint64 // events for clients
	matched  atomic.Uint64             // events for clients
	last     atomic.Uint64             // number of clients that had a node id

	table       topics.Table[*client] // changed with subscribing
	subscribing sync.Mutex            // held while table and the subscriptions of local change

	in       inbound
	patience patience // of dispatch

	mu          sync.Mutex
	clients     map[*client]struct{} // guarded by mu
	connections int                  // guarded by mu; also those in a handshake
	byAddress   map[netip.Addr]int   // guarded by mu
	closing     bool                 // guarded by mu; there are no new clients
	ended       bool                 // guarded by mu; spawn does nothing
}

// maxLogged bounds the clients that the log names for one reason in a loglimit.Window.
const maxLogged = 20

// New returns a Gateway for the clients of f. It reads the files of cfg, but does not listen yet.
// Call Shutdown at the end, also if Serve was never called.
func New(f *forwarder.Forwarder, cfg Config) (*Gateway, error) {
	cfg = cfg.withDefaults()
	g := &Gateway{
		log: cfg.Logger, limit: loglimit.New(maxLogged), accounts: newAccounts(),
		clients: make(map[*client]struct{}), byAddress: make(map[netip.Addr]int),
		holder: cfg.Memory.NewHolder("websocket events", 0, nil), node: newNodeID(),
	}
	g.in.init(cfg.Memory)
	g.cfg.Store(&cfg)
	if err := g.files.open(&cfg); err != nil {
		return nil, err
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.server = &http.Server{
		Handler: g, MaxHeaderBytes: maxHeader,
		ReadTimeout: min(cfg.HandshakeTimeout, requestTimeout),
		IdleTimeout: min(cfg.HandshakeTimeout, requestTimeout),
		ErrorLog:    slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
		Protocols:   new(http.Protocols),
	}
	g.server.Protocols.SetHTTP1(true) // WebSocket needs it
	g.local = f.Join(g.take)
	g.loops.Go(g.dispatch)
	g.loops.Go(g.watch)
	if cfg.PingInterval > 0 {
		g.loops.Go(g.ping)
	}
	return g, nil
}

const (
	// maxHeader bounds the header of a request, in bytes.
	maxHeader = 16 << 10
	// requestTimeout is how long a connection may take to send its request: it takes the place of
	// a client meanwhile.
	requestTimeout = 10 * time.Second
)

// newNodeID returns a node id as Zeek forms it: unique for each process.
func newNodeID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("zmtpd_gateway_%.64s_%d_N%s", strings.ReplaceAll(host, " ", "-"),
		os.Getpid(), rand.Text()[:16])
}

// Serve accepts clients from l, which it takes over. It does not block. It may be called several
// times.
func (g *Gateway) Serve(l net.Listener) {
	l = g.files.listener(&listener{l, g})
	g.loops.Go(func() {
		if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("WebSocket clients cannot connect any more: accepting fails",
				"address", l.Addr(), "err", err)
		}
	})
}

// Reconfigure changes the limits, the policy, and the origins. The rest of cfg has no effect.
func (g *Gateway) Reconfigure(cfg Config) {
	cfg = cfg.withDefaults()
	now := *g.cfg.Load()
	now.Origins, now.MaxClients, now.MaxClientsPerAddress = cfg.Origins, cfg.MaxClients,
		cfg.MaxClientsPerAddress
	now.MaxMessageSize, now.Rate = cfg.MaxMessageSize, cfg.Rate
	now.QueueMessages, now.QueueBytes = cfg.QueueMessages, cfg.QueueBytes
	now.Overload, now.WaitShare = cfg.Overload, cfg.WaitShare
	g.cfg.Store(&now)
}

// Shutdown ends the Gateway in order. It accepts no more clients, sends what waits for those that
// are connected, and closes them with 1001, "Terminating", as Zeek does. When ctx ends first, it
// cuts the connections, and the rest is counted as lost. Shutdown returns when all goroutines have
// ended. Call it after the Shutdown of the Forwarder, so that clients get the last events.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	done := g.closing
	g.closing = true
	g.mu.Unlock()
	if done {
		return nil
	}
	cut := context.AfterFunc(ctx, func() {
		g.cancel()
		for _, c := range g.all() {
			c.abort()
		}
	})
	g.server.Close() // with the connections that are no clients yet
	g.in.finish(ctx)
	for _, c := range g.all() {
		g.spawn(func() { c.terminate(ctx) })
	}
	g.readers.Wait()
	var err error
	if !cut() {
		err = ctx.Err()
	}
	g.cancel()
	g.loops.Wait()
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.helpers.Wait()
	g.writers.Wait()
	g.local.Leave()
	g.in.discard(g)
	g.holder.Close()
	return err
}

// spawn runs f in a goroutine for which Shutdown waits. It does nothing once Shutdown waits for
// those that there are.
func (g *Gateway) spawn(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.helpers.Go(f)
	}
}

// all returns the clients.
func (g *Gateway) all() []*client {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*client, 0, len(g.clients))
	for c := range g.clients {
		all = append(all, c)
	}
	return all
}

// pingParts is the number of groups of clients that are pinged at different times.
const pingParts = 10

// ping pings all clients.
func (g *Gateway) ping() {
	interval := g.cfg.Load().PingInterval
	tick := time.NewTicker(max(interval/pingParts, time.Millisecond))
	defer tick.Stop()
	for part := uint64(0); ; part++ {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		for _, c := range g.all() {
			if c.id%pingParts == part%pingParts {
				g.spawn(func() { c.ping(interval) })
			}
		}
	}
}

// watchInterval is how often files are checked for changes.
const watchInterval = time.Second

// watch reads files again that have changed.
func (g *Gateway) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.Poll()
		case <-g.ctx.Done():
			return
		}
	}
}

// Poll reads the files again that have changed, and closes the clients that may no longer be
// connected or whose permissions have changed. The Gateway calls it once a second.
func (g *Gateway) Poll() {
	g.polling.Lock()
	defer g.polling.Unlock()
	if !g.files.poll(g.log) {
		return
	}
	for _, c := range g.all() {
		if !g.files.knows(c.identity) {
			c.closeFor(AccessChanged, websocket.StatusPolicyViolation,
				"The client's permissions have changed")
		}
	}
}

// refuse counts a refusal and logs the first ones.
func (g *Gateway) refuse(r Reason, peer, client string, attrs ...any) {
	g.refused[r].Add(1)
	host, _, _ := net.SplitHostPort(peer)
	if more, ok := g.limit.Admit(r.String(), host+" "+client); ok {
		all := []any{"reason", r, "peer", peer, "client", client}
		if more > 0 {
			all = append(all, "others", more)
		}
		g.log.Warn("WebSocket client refused", append(all, attrs...)...)
	}
}

// logClient logs something about a client, unless that was logged not long ago.
func (g *Gateway) logClient(r Reason, c *client, what string) {
	if more, ok := g.limit.Admit(what, c.endpoint); ok {
		g.log.Warn(what, "reason", r, "peer", c.remote, "client", c.identity.Name, "application",
			c.app, "others", more)
	}
}
