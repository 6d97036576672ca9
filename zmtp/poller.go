package zmtp

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Receiver is a socket that receives: one of any type but PUSH, PUB, SCATTER and RADIO.
type Receiver interface {
	Recv(ctx context.Context) (Message, error)
	TryRecv() (Message, error)

	// readable reports whether Recv would return without waiting.
	readable() bool
	watched() *watchers
}

// Sender is a socket that sends: one of any type but PULL, SUB, GATHER and DISH.
type Sender interface {
	Type() SocketType

	// writable reports whether a send would return without waiting.
	writable() bool
	watched() *watchers
}

// Poller waits until it can receive from one of several sockets or send with one (zmq_poller),
// without a goroutine for each of them. The zero value has no sockets. Its methods may be called
// from any goroutine; each Wait learns of all changes.
//
// When a socket can send depends on its type:
//
//   - PUSH, DEALER, PAIR, SCATTER, CLIENT and CHANNEL: a peer has room.
//   - PUB, RADIO, XSUB, XPUB and ROUTER: always, since they drop what has no room. An XPUB with
//     NoDrop: all subscribers have room. A ROUTER with Mandatory: one peer has room.
//   - SERVER, PEER and STREAM: one peer has room. A send to another may have to wait.
//   - REQ: it may send a request, and a peer has room. REP: a request waits for its reply.
type Poller struct {
	changed gate // a socket may have become ready, or the sockets have changed

	mu        sync.Mutex
	receivers []Receiver
	senders   []Sender
}

// Ready are the sockets that a [Poller] has found ready, in the order in which they were added.
type Ready struct {
	Receivers []Receiver // TryRecv would return something
	Senders   []Sender   // TrySend would queue a message
}

// Add waits for something to receive from s. It does nothing if the Poller does so already.
func (p *Poller) Add(s Receiver) { pollerAdd(p, &p.receivers, s, s.watched()) }

// AddSender waits until s can send. It does nothing if the Poller does so already.
func (p *Poller) AddSender(s Sender) { pollerAdd(p, &p.senders, s, s.watched()) }

// Remove undoes Add. It does nothing if s was not added.
func (p *Poller) Remove(s Receiver) { pollerRemove(p, &p.receivers, s, s.watched()) }

// RemoveSender undoes AddSender. A socket that can send mostly can, so add it only while there is
// something to send.
func (p *Poller) RemoveSender(s Sender) { pollerRemove(p, &p.senders, s, s.watched()) }

func pollerAdd[T comparable](p *Poller, all *[]T, s T, w *watchers) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(*all, s) {
		return
	}
	*all = append(*all, s)
	w.add(&p.changed)
	p.changed.open()
}

func pollerRemove[T comparable](p *Poller, all *[]T, s T, w *watchers) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(*all, s); i >= 0 {
		*all = slices.Delete(*all, i, i+1)
		w.remove(&p.changed)
	}
}

// Wait waits until a socket is ready, and returns all that are. It returns the cause of ctx's end
// when that comes first.
//
// Wait takes nothing and reserves no room: TryRecv and TrySend may return ErrWouldBlock if another
// goroutine was faster, and TryRecv if no message matches the subscriptions any more. A socket that
// has ended is ready until it is removed, since its calls return ErrClosed.
func (p *Poller) Wait(ctx context.Context) (Ready, error) {
	for {
		changed := p.changed.wait()
		if r := p.Ready(); len(r.Receivers)+len(r.Senders) > 0 {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Ready{}, context.Cause(ctx)
		}
	}
}

// Ready is Wait without waiting: it returns the sockets that are ready, perhaps none.
func (p *Poller) Ready() (r Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.receivers {
		if s.readable() {
			r.Receivers = append(r.Receivers, s)
		}
	}
	for _, s := range p.senders {
		if s.writable() {
			r.Senders = append(r.Senders, s)
		}
	}
	return r
}

// watchers are the gates of the pollers of a socket.
type watchers struct {
	gates atomic.Pointer[[]*gate] // nil if there are none; what it points to does not change
	mu    sync.Mutex              // of those that change it
}

func (w *watchers) add(g *gate) {
	w.change(func(all []*gate) []*gate { return append(all, g) })
}

func (w *watchers) remove(g *gate) {
	w.change(func(all []*gate) []*gate {
		i := slices.Index(all, g)
		return slices.Delete(all, i, i+1)
	})
}

func (w *watchers) change(f func([]*gate) []*gate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*gate
	if old := w.gates.Load(); old != nil {
		all = slices.Clone(*old)
	}
	if all = f(all); len(all) == 0 {
		w.gates.Store(nil)
		return
	}
	w.gates.Store(&all)
}

// open wakes the pollers.
func (w *watchers) open() {
	if w == nil {
		return
	}
	if all := w.gates.Load(); all != nil {
		for _, g := range *all {
			g.open()
		}
	}
}

// watched returns what is told when the socket may have become readable or writable.
func (s *Socket) watched() *watchers { return &s.watchers }

func (r receiver) readable() bool { return r.socket.inbox.readable() }

// readable reports whether the inbox has a message, or has ended.
func (in *inbox) readable() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.queue.empty() || in.drained || in.aborted
}

// readable reports whether there is a request, and none that was not answered.
func (s *Rep) readable() bool { return !s.asked() && s.in.readable() }

// writable reports whether there is a request that was not answered.
func (s *Rep) writable() bool { return s.asked() || s.closing.Load() }

func (s *Rep) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer != nil
}

// readable reports whether the reply is there, or can never come.
func (s *Req) readable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return true
	default:
		return s.reply != nil
	}
}

// writable reports whether no reply is waited for, and a peer has room.
func (s *Req) writable() bool {
	s.mu.Lock()
	waits := s.stage == reqSent && !s.opt.Relaxed
	s.mu.Unlock()
	return s.closing.Load() || !waits && s.balance.canSend()
}

func (s sender) writable() bool     { return s.socket.closing.Load() || s.to.canSend() }
func (a *addressed) writable() bool { return a.socket.closing.Load() || a.routes.canSend() }

// canSend implements distributor.
func (lb *loadBalancer) canSend() bool {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	if err := lb.takes(); err != nil {
		return err != ErrWouldBlock
	}
	ok := false
	for _, p := range lb.pipes {
		ok = p.writable() || ok // all of them, so that each that has none tells when it has
	}
	return ok
}

// canSend reports whether a peer has room.
func (rs *routes[K]) canSend() bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	ok := false
	for _, r := range rs.byID {
		ok = r.writable() || ok
	}
	return ok
}

// canSend implements distributor.
func (s *routerPattern) canSend() bool { return !s.opt.Mandatory || s.routes.canSend() }

// canSend implements distributor.
func (s *streamPattern) canSend() bool { return s.routes.canSend() }

// canSend implements distributor.
func (c *publisher) canSend() bool {
	if !c.NoDrop {
		return true
	}
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	ok := true
	for p := range c.socket.peers {
		ok = (p.outbox.writable() || p.outbox.isClosed()) && ok
	}
	return ok
}

// canSend implements distributor.
func (*groups) canSend() bool { return true }

// canSend implements distributor.
func (*subscriber) canSend() bool { return true }
