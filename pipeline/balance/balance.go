// Package balance distributes the log batches of Zeek's nodes to several loggers.
package balance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Balancer passes the messages of nodes on to a PUSH socket, in the read loop of each node. While
// no logger has room for a node's batch, the node is not read. All methods are safe for concurrent
// use.
type Balancer struct {
	pull   *zmtp.Socket
	push   *zmtp.Push
	ctx    context.Context // context of sends; ends when Shutdown does
	cancel context.CancelFunc

	mu      sync.Mutex
	sources map[uint64]*source // guarded by mu; the key is the peer's id
}

// source is a node's connection.
type source struct {
	node    atomic.Pointer[string] // Zeek's node id, nil until the node has sent it
	since   atomic.Int64           // start of the current wait, ns since 1970; 0 for none
	blocked atomic.Int64           // duration of all earlier waits, ns
}

// New returns a Balancer whose PULL socket has the configuration config. The caller owns push and
// shuts it down after Shutdown.
func New(config zmtp.Config, push *zmtp.Push) *Balancer {
	b := &Balancer{push: push, sources: map[uint64]*source{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.pull = zmtp.NewSocket(wire.PULL, (*pattern)(b), config)
	return b
}

// Pull returns the socket to which nodes connect.
func (b *Balancer) Pull() *zmtp.Socket { return b.pull }

// pattern implements zmtp.Pattern for the Balancer's PULL socket.
type pattern Balancer

// Attach implements [zmtp.Pattern].
func (b *pattern) Attach(p *zmtp.Peer) error {
	src := new(source)
	p.Value = src
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sources[p.ID()] = src
	return nil
}

// Detach implements [zmtp.Pattern].
func (b *pattern) Detach(p *zmtp.Peer, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sources, p.ID())
}

// Receive implements [zmtp.Pattern]. It blocks until loggers have taken the whole batch.
func (b *pattern) Receive(p *zmtp.Peer, batch *zmtp.Batch) error {
	src := p.Value.(*source)
	src.note(batch.Message(batch.Len() - 1).Part(1))
	began := time.Now()
	src.since.Store(began.UnixNano())
	n, err := b.push.SendBatch(b.ctx, batch)
	src.since.Store(0)
	src.blocked.Add(int64(time.Since(began)))
	if err != nil {
		p.Drop(zmtp.DropClosed, batch.Len()-n)
		return &zmtp.PeerClosedError{Reason: wire.LocalClose, Stage: "traffic", Err: err}
	}
	return nil
}

// maxNodeID is the largest size of a node id that is kept, in bytes.
const maxNodeID = 256

// note keeps the node's id. Only the peer's read loop calls it.
func (s *source) note(id []byte) {
	if old := s.node.Load(); len(id) == 0 || len(id) > maxNodeID || old != nil &&
		*old == string(id) {
		return
	}
	text := string(id)
	s.node.Store(&text)
}

// Node returns Zeek's id of the node behind a peer of Pull, and the total time for which the node
// has waited for room at a logger. Both are zero for a peer that has gone.
func (b *Balancer) Node(peer uint64) (id string, blocked time.Duration) {
	b.mu.Lock()
	src := b.sources[peer]
	b.mu.Unlock()
	if src == nil {
		return "", 0
	}
	if p := src.node.Load(); p != nil {
		id = *p
	}
	blocked = time.Duration(src.blocked.Load())
	if since := src.since.Load(); since > 0 {
		blocked += max(time.Since(time.Unix(0, since)), 0)
	}
	return id, blocked
}

// minBlocked is the shortest wait after which a node counts as blocked.
const minBlocked = 100 * time.Millisecond

// Blocked returns the number of nodes that are not read because no logger has room.
func (b *Balancer) Blocked() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, src := range b.sources {
		if since := src.since.Load(); since > 0 && time.Since(time.Unix(0, since)) >= minBlocked {
			n++
		}
	}
	return n
}

// errStillSending is the reason for closing a node's connection during Shutdown.
var errStillSending = errors.New(
	"the balancer is shutting down and the node does not close its connection")

// Shutdown reads until the nodes close their connections, and passes everything on to the loggers.
// Nodes of Zeek and zmtpd close their connections when the balancer has closed its direction. After
// half of the time that ctx leaves, Shutdown cuts off the nodes that still send; from the others it
// reads on to the end. If ctx ends first, the rest is dropped and counted, and the error is a
// [*zmtp.LingerError].
func (b *Balancer) Shutdown(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		cut := time.AfterFunc(time.Until(deadline)/2, func() {
			b.pull.ClosePeers(func(p *zmtp.Peer) error {
				if p.Ended() {
					return nil
				}
				return errStillSending
			})
		})
		defer cut.Stop()
	}
	defer b.cancel()
	defer context.AfterFunc(ctx, b.cancel)()
	return b.pull.Shutdown(ctx)
}

// LogPath is a function for [zmtp.PushOptions.Key] that keeps each log at one logger. It returns
// the log path of a message, or nil for a message that is not a log batch.
func LogPath(m zmtp.Message) []byte {
	var memory [4][]byte
	if m.NumParts() != len(memory) {
		return nil
	}
	parts := m.AppendParts(memory[:0])
	if string(parts[2]) != zeek.SerializerName {
		return nil
	}
	b, err := zeek.ParseBatch(parts[3])
	if err != nil {
		return nil // the logger will report the fault
	}
	return b.Path
}
