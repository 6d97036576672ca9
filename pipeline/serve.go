package pipeline

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"zmtpd/zmtp"
)

// laneDepth is how many batches may wait for a worker, so that one that has much to
// write does not at once hold up the others. The socket's limits bound the rest.
const laneDepth = 4

// Receiver moves the log messages that a PULL socket receives into a [Logger].
//
// A message is either in the Logger's accounts or in the socket's: what the Receiver has
// taken from the socket it hands to the Logger, whatever else happens. So the end without loss is
// [Receiver.Shutdown] and then [Logger.Close].
//
// One worker a core decodes and renders. A peer's batches all go to the same one, which
// keeps the order within each sender and log path.
type Receiver struct {
	// Static after Serve.
	pull   *zmtp.Pull
	logger *Logger
	ctx    context.Context // of Logger.Write: ends when there is no more waiting for files
	cancel context.CancelFunc
	done   chan struct{} // closed when all is handed to logger

	mu     sync.Mutex
	nodes  map[*zmtp.Peer]string // guarded by mu; node ids of the peers that have sent something
	cutOff bool                  // guarded by mu; peers that still send are closed
}

// Serve starts to move what pull receives into logger. It ends with Shutdown, or after the last
// message of a socket that is shut down by others. It owns neither of the two.
func Serve(pull *zmtp.Pull, logger *Logger) *Receiver {
	r := &Receiver{pull: pull, logger: logger, nodes: map[*zmtp.Peer]string{}, done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r
}

// run hands the batches of each peer to its worker.
func (r *Receiver) run() {
	defer close(r.done)
	defer r.cancel()
	lanes := make([]chan *zmtp.Batch, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range lanes {
		lanes[i] = make(chan *zmtp.Batch, laneDepth)
		workers.Go(func() { r.work(lanes[i]) })
	}
	for {
		b, err := r.pull.RecvBatch(context.Background())
		if err != nil {
			break // the socket is shut down and the last message taken
		}
		lanes[b.Peer().ID()%uint64(len(lanes))] <- b // a worker never stops before its lane is closed
	}
	for _, lane := range lanes {
		close(lane)
	}
	workers.Wait()
}

// Shutdown shuts the socket down and returns when everything it received is handed to the
// Logger. It reads what the nodes have sent so far; one that does not stop sending is cut off
// after half of the time that ctx leaves, at most 5 s, so that the other half is for writing.
// When ctx ends first, the rest is dropped and counted, by the socket or the Logger, and
// the error is that of ctx.
func (r *Receiver) Shutdown(ctx context.Context) error {
	busy := maxBusy
	if deadline, ok := ctx.Deadline(); ok {
		busy = min(busy, time.Until(deadline)/2)
	}
	cut := time.AfterFunc(busy, r.cutOffSenders)
	defer cut.Stop()
	defer context.AfterFunc(ctx, r.cancel)()

	err := r.pull.Shutdown(ctx)
	<-r.done
	return err
}

// maxBusy is how long Shutdown reads from nodes that go on sending.
const maxBusy = 5 * time.Second

// errStillSending is why a node is cut off.
var errStillSending = errors.New("the logger is shutting down and the node goes on sending")

func (r *Receiver) cutOffSenders() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutOff = true
	for p := range r.nodes {
		p.Close(errStillSending)
	}
}

// work writes the batches of one lane.
func (r *Receiver) work(lane <-chan *zmtp.Batch) {
	var parts [][]byte
	for b := range lane {
		for m := range b.Messages() {
			parts = m.AppendParts(parts[:0])
			// The Logger counts and logs what it refuses.
			_ = r.logger.Write(r.ctx, parts)
		}
		var node []byte
		if len(parts) > 1 && len(parts[1]) <= maxNodeID {
			node = parts[1]
		}
		r.note(b.Peer(), node)
		clear(parts)
		b.Release()
	}
}

// note remembers that p sends as the node of that id, empty if it did not say.
func (r *Receiver) note(p *zmtp.Peer, node []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cutOff {
		p.Close(errStillSending)
	}
	id, known := r.nodes[p]
	if known && id == string(node) {
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
		if node != "" {
			ids[p.ID()] = node
		}
	}
	return ids
}
