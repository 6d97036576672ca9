package pipeline

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"zmtpd/zmtp"
)

// laneDepth is how many batches may wait for a worker, so that one that has much to
// write does not at once hold up the others. The socket's limits bound the rest.
const laneDepth = 4

// Receiver moves the log messages that a PULL socket receives into a [Logger].
//
// A message is either in the Logger's accounts or in the socket's: what Run has
// taken from the socket it hands to the Logger, whatever else happens. So the end
// without loss is this, in this order:
//
//  1. pull.Shutdown reads what the nodes have sent, while Run goes on;
//  2. Run returns nil after the last message;
//  3. logger.Close writes everything.
type Receiver struct {
	// Static after construction.
	pull   *zmtp.Pull
	logger *Logger

	mu    sync.Mutex
	nodes map[*zmtp.Peer]string // guarded by mu; node ids of the peers that have sent something
}

// NewReceiver returns a Receiver. It does nothing before Run, and owns neither of
// the two.
func NewReceiver(pull *zmtp.Pull, logger *Logger) *Receiver {
	return &Receiver{pull: pull, logger: logger, nodes: map[*zmtp.Peer]string{}}
}

// Run moves messages until the socket is shut down and the last message taken, then
// it returns nil; or until ctx ends, then the error is its cause and the Logger stops to
// wait for files that cannot be written. It must be called once.
//
// One worker a core decodes and renders. A peer's batches all go to the same one, which
// keeps the order within each sender and log path.
func (r *Receiver) Run(ctx context.Context) error {
	lanes := make([]chan *zmtp.Batch, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range lanes {
		lanes[i] = make(chan *zmtp.Batch, laneDepth)
		workers.Go(func() { r.work(ctx, lanes[i]) })
	}
	defer workers.Wait()
	defer func() {
		for _, lane := range lanes {
			close(lane)
		}
	}()
	for {
		b, err := r.pull.RecvBatch(ctx)
		if errors.Is(err, zmtp.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		lanes[b.Peer().ID()%uint64(len(lanes))] <- b // a worker never stops before its lane is closed
	}
}

// work writes the batches of one lane.
func (r *Receiver) work(ctx context.Context, lane <-chan *zmtp.Batch) {
	var parts [][]byte
	for b := range lane {
		for m := range b.Messages() {
			parts = m.AppendParts(parts[:0])
			// The Logger counts and logs what it refuses.
			_ = r.logger.Write(ctx, parts)
		}
		if len(parts) > 1 {
			r.note(b.Peer(), parts[1])
		}
		clear(parts)
		b.Release()
	}
}

// note remembers that p is the node of that id.
func (r *Receiver) note(p *zmtp.Peer, node []byte) {
	if len(node) > maxNodeID {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id, known := r.nodes[p]
	if id == string(node) && known {
		return
	}
	if !known {
		// Those that are gone make room, so that there are never more than peers.
		for q := range r.nodes {
			select {
			case <-q.Done():
				delete(r.nodes, q)
			default:
			}
		}
	}
	r.nodes[p] = string(node)
}

// Nodes returns the node ids of the connected peers that have sent something, by
// [zmtp.PeerStats.ID]: the one in the last message of each. Ids are whatever bytes the peer sent,
// at most 256. Peers that are gone may still be among them.
func (r *Receiver) Nodes() map[uint64]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[uint64]string, len(r.nodes))
	for p, node := range r.nodes {
		ids[p.ID()] = node
	}
	return ids
}
