package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// balancer moves what the nodes send to the queues of the loggers. The read loop of a node does so itself: while there is no
// room for its next batch the node is not read, and nothing of it waits here beside that.
type balancer struct {
	pull   *zmtp.Socket
	push   *zmtp.Push
	ctx    context.Context // ends when there is no more waiting for loggers
	cancel context.CancelFunc

	mu      sync.Mutex
	sources map[uint64]*source // guarded by mu; by the peer's id
}

// source is a node's connection.
type source struct {
	node   atomic.Pointer[string] // Zeek's id, nil if it did not say
	since  atomic.Int64           // when it began to wait for a logger, in ns since 1970; 0 if it does not
	waited atomic.Int64           // for how long it has waited, ns
}

func newBalancer(config zmtp.Config, push *zmtp.Push) *balancer {
	b := &balancer{push: push, sources: map[uint64]*source{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.pull = zmtp.NewSocket(wire.PULL, b, config)
	return b
}

// Attach implements zmtp.Pattern.
func (b *balancer) Attach(p *zmtp.Peer) error {
	src := new(source)
	p.Value = src
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sources[p.ID()] = src
	return nil
}

// Detach implements zmtp.Pattern.
func (b *balancer) Detach(p *zmtp.Peer, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sources, p.ID())
}

// Subscribe implements zmtp.Pattern; a PULL gets no subscriptions.
func (b *balancer) Subscribe(*zmtp.Peer, []byte, bool) error { return nil }

// Receive implements zmtp.Pattern: it gives the batch to the loggers, and waits until they have taken it.
func (b *balancer) Receive(p *zmtp.Peer, batch *zmtp.Batch) error {
	src := p.Value.(*source)
	src.note(batch.Message(batch.Len() - 1).Part(1))
	began := time.Now()
	src.since.Store(began.UnixNano())
	n, err := b.push.SendBatch(b.ctx, batch)
	src.since.Store(0)
	src.waited.Add(int64(time.Since(began)))
	if err != nil {
		p.Drop(zmtp.DropClosed, batch.Len()-n)
		return &zmtp.PeerClosedError{Reason: wire.LocalClose, Stage: "traffic", Err: err}
	}
	return nil
}

// maxNodeID is the longest node id that is shown, in bytes.
const maxNodeID = 256

// note remembers the node's id. Only the peer's read loop calls it.
func (s *source) note(id []byte) {
	if old := s.node.Load(); len(id) == 0 || len(id) > maxNodeID || old != nil && *old == string(id) {
		return
	}
	text := string(id)
	s.node.Store(&text)
}

// of returns what is known of a peer: its node's id, and for how long it has waited for loggers.
func (b *balancer) of(id uint64) (node string, waited time.Duration) {
	b.mu.Lock()
	src := b.sources[id]
	b.mu.Unlock()
	if src == nil {
		return "", 0
	}
	if p := src.node.Load(); p != nil {
		node = *p
	}
	waited = time.Duration(src.waited.Load())
	if since := src.since.Load(); since > 0 {
		waited += max(time.Since(time.Unix(0, since)), 0)
	}
	return node, waited
}

// minWait is from when on a node counts as one that waits.
const minWait = 100 * time.Millisecond

// waiting returns how many nodes wait for loggers.
func (b *balancer) waiting() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, src := range b.sources {
		if since := src.since.Load(); since > 0 && time.Since(time.Unix(0, since)) >= minWait {
			n++
		}
	}
	return n
}

// maxBusy is how long shutdown reads from nodes that go on sending.
const maxBusy = 5 * time.Second

// errStillSending is why a node is cut off.
var errStillSending = errors.New("the balancer is shutting down and the node goes on sending")

// shutdown reads what the nodes have sent so far and gives it to the loggers. One that does not stop sending is cut off after
// half of the time that ctx leaves, at most 5 s. When ctx ends first the rest is dropped and counted.
func (b *balancer) shutdown(ctx context.Context) error {
	busy := maxBusy
	if deadline, ok := ctx.Deadline(); ok {
		busy = min(busy, time.Until(deadline)/2)
	}
	cut := time.AfterFunc(busy, func() {
		b.pull.ClosePeers(func(*zmtp.Peer) error { return errStillSending })
	})
	defer cut.Stop()
	defer b.cancel()
	defer context.AfterFunc(ctx, b.cancel)()
	return b.pull.Shutdown(ctx)
}
