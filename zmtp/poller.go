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
	// watched are told when readable may have changed from false to true.
	watched() *watchers
}

// Poller waits for messages on several sockets at once, without a goroutine for each of them
// (zmq_poller). The zero value has no sockets. Its methods may be called from any goroutine; each
// Wait learns of all changes.
type Poller struct {
	changed gate // a socket may have become ready, or the sockets have changed

	mu  sync.Mutex
	all []Receiver
}

// Add adds a socket. It does nothing if the Poller has it already.
func (p *Poller) Add(s Receiver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.all, s) {
		return
	}
	p.all = append(p.all, s)
	s.watched().add(&p.changed)
	p.changed.open()
}

// Remove removes a socket. It does nothing if the Poller does not have it.
func (p *Poller) Remove(s Receiver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.all, s); i >= 0 {
		p.all = slices.Delete(p.all, i, i+1)
		s.watched().remove(&p.changed)
	}
}

// Wait waits until a socket has something to receive, and returns all that have, in the order of
// Add. It returns the cause of ctx's end when that comes first.
//
// Wait takes nothing: TryRecv may return ErrWouldBlock if another goroutine was faster, or if no
// message matches the subscriptions any more. A socket that has ended is ready, since receiving
// returns ErrClosed, until Remove.
func (p *Poller) Wait(ctx context.Context) (ready []Receiver, err error) {
	for {
		changed := p.changed.wait()
		if ready = p.Ready(); len(ready) > 0 {
			return ready, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Ready is Wait without waiting: it returns the sockets that have something to receive, perhaps
// none.
func (p *Poller) Ready() (ready []Receiver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.all {
		if s.readable() {
			ready = append(ready, s)
		}
	}
	return ready
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

func (r receiver) readable() bool     { return r.socket.inbox.readable() }
func (r receiver) watched() *watchers { return &r.socket.watchers }

// readable reports whether the inbox has a message, or has ended.
func (in *inbox) readable() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.queue.empty() || in.drained || in.aborted
}

// readable reports whether there is a request, and none that was not answered.
func (s *Rep) readable() bool {
	s.mu.Lock()
	busy := s.peer != nil
	s.mu.Unlock()
	return !busy && s.in.readable()
}

func (s *Rep) watched() *watchers { return s.in.watched() }

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

func (s *Req) watched() *watchers { return &s.watchers }
