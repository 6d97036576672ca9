package forwarder

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// Forwarder is a broker between publishers and subscribers. Its methods may be called from any
// goroutine.
type Forwarder struct {
	// Static.
	log  *slog.Logger
	xsub *zmtp.Socket // its peers are publishers
	xpub *zmtp.Socket // its peers are subscribers

	table      topics.Table[*subscriber] // changed under mu
	classes    *classes
	tap        *tap    // nil for none
	fromLocals traffic // what LocalPublishers published
	up         traffic // what subscribers sent, see Stats.Frontend
	accounts   ledger  // of all subscribers
	received   received
	upstream   received

	cfg atomic.Pointer[Config] // with defaults; changed under mu, see Reconfigure

	closing atomic.Bool    // Shutdown has begun
	stop    chan struct{}  // closed when publishers must not wait any longer
	once    sync.Once      // closes stop
	watches sync.WaitGroup // the goroutines of slows

	pacing atomic.Int32 // number of subscribers that wait for publishers, see pace

	mu          sync.Mutex
	topicBytes  int64 // of all topics in table, with frameOverhead
	publishers  map[*zmtp.Peer]struct{}
	subscribers map[*subscriber]struct{}
	denied      map[string]*denied // by user id, for clients that may not do everything
}

// New returns a Forwarder. It does not listen yet.
func New(cfg Config) *Forwarder {
	f := &Forwarder{
		classes:     newClasses(),
		stop:        make(chan struct{}),
		publishers:  make(map[*zmtp.Peer]struct{}),
		subscribers: make(map[*subscriber]struct{}),
		denied:      make(map[string]*denied),
	}
	cfg = cfg.withDefaults()
	f.cfg.Store(&cfg)
	f.log = cfg.Logger
	f.xsub = zmtp.NewSocket(wire.XSUB, (*xsubPattern)(f), cfg.XSub)
	f.xpub = zmtp.NewSocket(wire.XPUB, (*xpubPattern)(f), cfg.XPub)
	if cfg.Tap != nil {
		f.tap = newTap(f, *cfg.Tap)
	}
	return f
}

// ListenXSub accepts publishers at an endpoint (see [zmtp.Socket.Listen]) and returns the endpoint
// with the address that was bound. It does not block. It may be called several times.
func (f *Forwarder) ListenXSub(endpoint string) (bound string, err error) {
	return f.xsub.Listen(endpoint)
}

// ListenXPub is ListenXSub for subscribers.
func (f *Forwarder) ListenXPub(endpoint string) (bound string, err error) {
	return f.xpub.Listen(endpoint)
}

// ServeXSub accepts publishers from l, which it takes over. It does not block.
func (f *Forwarder) ServeXSub(l net.Listener) (bound string, err error) { return f.xsub.Serve(l) }

// ServeXPub accepts subscribers from l, which it takes over. It does not block.
func (f *Forwarder) ServeXPub(l net.Listener) (bound string, err error) { return f.xpub.Serve(l) }

// ClosePeers closes the connection of each publisher and subscriber for which check returns an
// error, with that error, as [zmtp.Socket.ClosePeers] does. It includes the subscribers of the tap.
func (f *Forwarder) ClosePeers(check func(*zmtp.Peer) error) {
	f.xsub.ClosePeers(check)
	f.xpub.ClosePeers(check)
	if f.tap != nil {
		f.tap.pub.ClosePeers(check)
	}
}

// Shutdown ends the Forwarder in order. It admits no more peers, reads what the publishers have
// sent so far, and then gives the subscribers what waits for them; those of the tap get a second at
// most. When ctx ends first, the rest is dropped and counted, and the error is that of ctx.
// Shutdown returns when all goroutines have ended. It may be called more than once.
func (f *Forwarder) Shutdown(ctx context.Context) error {
	f.closing.Store(true)
	release := context.AfterFunc(ctx, f.abort)
	defer release()
	err := f.xsub.Shutdown(ctx)
	var tapped sync.WaitGroup
	if f.tap != nil {
		tapped.Go(func() { f.tap.shutdown(ctx) })
	}
	if e := f.xpub.Shutdown(ctx); err == nil {
		err = e
	}
	tapped.Wait()
	f.watches.Wait()
	return err
}

// Reconfigure changes Overload and WaitShare, and in XSub, XPub and Tap.Socket what
// [zmtp.Socket.Reconfigure] changes. The rest of cfg has no effect. Publishers that wait for a
// subscriber obey new limits at once, and a new policy within 10 ms.
func (f *Forwarder) Reconfigure(cfg Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := *f.cfg.Load()
	now.Overload, now.WaitShare = cfg.Overload, cfg.WaitShare
	now.XSub.SendBytes = cfg.XSub.SendBytes
	now = now.withDefaults()
	f.cfg.Store(&now)
	f.xsub.Reconfigure(cfg.XSub)
	f.xpub.Reconfigure(cfg.XPub)
	if f.tap != nil && cfg.Tap != nil {
		f.tap.pub.Reconfigure(cfg.Tap.Socket)
	}
}

func (f *Forwarder) policy() Policy { return f.cfg.Load().Overload }

// budget returns for how long of any holdWindow slow subscribers may hold up a publisher.
func (f *Forwarder) budget() time.Duration {
	return time.Duration(f.cfg.Load().WaitShare * float64(holdWindow))
}

// abort makes publishers and subscribers that wait give up.
func (f *Forwarder) abort() { f.once.Do(func() { close(f.stop) }) }

// Close is Shutdown that waits for nothing: what is queued is dropped and counted.
func (f *Forwarder) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
