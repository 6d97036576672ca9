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

// Forwarder is a broker between publishers and subscribers. All methods may be called from any goroutine at any time.
type Forwarder struct {
	// Static.
	log  *slog.Logger
	xsub *zmtp.Socket // its peers are publishers
	xpub *zmtp.Socket // its peers are subscribers

	table    topics.Table[*subscriber] // changed under mu
	classes  *classes
	tap      *tap    // nil for none
	up       traffic // what came from subscribers, see Stats.Frontend
	accounts ledger  // of all subscribers
	received received
	upstream received

	cfg atomic.Pointer[Config] // with defaults; changed under mu, see Reconfigure

	closing atomic.Bool    // Shutdown has begun
	stop    chan struct{}  // closed when nobody is to wait for a subscriber any more
	once    sync.Once      // closes stop
	watches sync.WaitGroup // the goroutines of subscriber.watch

	pacing atomic.Int32 // subscribers that wait for publishers, see pace

	mu          sync.Mutex
	topicBytes  int64 // of all topics in table, with frameOverhead
	publishers  map[*zmtp.Peer]struct{}
	subscribers map[*subscriber]struct{}
	denied      map[string]*denied // by user id, of those who may not do everything
}

// New returns a Forwarder that does not listen yet.
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

// ListenXSub accepts publishers at an endpoint (see zmtp.Socket.Listen) and returns it with the address actually bound. It
// does not block, and may be called several times.
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

// ClosePeers closes the connections of the publishers and subscribers, also those of the tap, for which check returns an error, with
// that error, as [zmtp.Socket.ClosePeers] does.
func (f *Forwarder) ClosePeers(check func(*zmtp.Peer) error) {
	f.xsub.ClosePeers(check)
	f.xpub.ClosePeers(check)
	if f.tap != nil {
		f.tap.pub.ClosePeers(check)
	}
}

// Shutdown ends the Forwarder in order: it admits nobody more, reads what the publishers have sent so far, and then gives the
// subscribers what waits for them, those of the tap for a second at most. When ctx ends first, the rest is dropped and counted, and
// the error is that of ctx. It returns when all goroutines are gone. It may be called more than once.
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

// Reconfigure changes Overload and WaitShare, and of XSub, XPub and Tap.Socket what [zmtp.Socket.Reconfigure] does; the rest of cfg
// has no effect. Publishers that wait for a subscriber follow the new policy within 10 ms, and new limits at once.
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

func (f *Forwarder) policy() Policy     { return f.cfg.Load().Overload }
func (f *Forwarder) waitShare() float64 { return f.cfg.Load().WaitShare }

// budget is for how long of each holdWindow slow subscribers may hold up one publisher.
func (f *Forwarder) budget() time.Duration { return time.Duration(f.waitShare() * float64(holdWindow)) }

// abort lets those who wait for a subscriber give up.
func (f *Forwarder) abort() { f.once.Do(func() { close(f.stop) }) }

// Close is Shutdown without waiting for anything: what is on its way is dropped and counted.
func (f *Forwarder) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
