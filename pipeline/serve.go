package pipeline

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp"
)

// maxWaiting limits the bytes of the messages that wait for their log, taken from the socket. The
// socket's limits bound the rest.
const maxWaiting = 32 << 20

// Receiver moves the log messages that a PULL socket receives into a [Logger].
//
// A message is either in the Logger's accounts or in the socket's: what the Receiver has
// taken from the socket it hands to the Logger, whatever else happens. So the end without loss is
// [Receiver.Shutdown] and then [Logger.Close].
//
// The batches of one peer for one log path are written one after the other, which keeps their order; all
// others at the same time, on all cores. So a log that cannot be written delays no other, until
// 32 MiB wait for it: then the nodes wait.
type Receiver struct {
	// Static after Serve.
	pull   *zmtp.Pull
	logger *Logger
	ctx    context.Context // of Logger.Write: ends when there is no more waiting for files
	cancel context.CancelFunc
	done   chan struct{} // closed when all is handed to logger

	writers sync.WaitGroup // goroutines that write; only run adds to it

	queueMu sync.Mutex
	room    sync.Cond             // waiting has gone down
	queues  map[queueKey][]queued // guarded by queueMu; those that a goroutine writes
	waiting int                   // guarded by queueMu; bytes of what is queued or being written

	mu     sync.Mutex
	nodes  map[*zmtp.Peer]string // guarded by mu; node ids of the peers that have sent something
	cutOff bool                  // guarded by mu; peers that still send are closed
}

// Serve starts to move what pull receives into logger. It ends with Shutdown, or after the last
// message of a socket that is shut down by others. It owns neither of the two.
func Serve(pull *zmtp.Pull, logger *Logger) *Receiver {
	r := &Receiver{pull: pull, logger: logger, nodes: map[*zmtp.Peer]string{}, queues: map[queueKey][]queued{}, done: make(chan struct{})}
	r.room.L = &r.queueMu
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r
}

// run hands the messages of each peer to the queues of their logs.
func (r *Receiver) run() {
	defer close(r.done)
	defer r.cancel()
	var parts [][]byte
	for {
		b, err := r.pull.RecvBatch(context.Background())
		if err != nil {
			break // the socket is shut down and the last message taken
		}
		memory := &shared{batch: b}
		memory.uses.Store(1)
		for m := range b.Messages() {
			parts = m.AppendParts(parts[:0])
			// The Logger counts and logs what it refuses.
			if in, err := r.logger.receive(parts); err == nil {
				memory.uses.Add(1)
				r.enqueue(queueKey{b.Peer().ID(), string(in.batch.Path)}, queued{in, memory, len(in.batch.Values)})
			}
		}
		var node []byte
		if len(parts) > 1 && len(parts[1]) <= maxNodeID {
			node = parts[1]
		}
		r.note(b.Peer(), node)
		clear(parts)
		memory.release()
	}
	r.writers.Wait()
}

// shared is the memory of messages that are written independently.
type shared struct {
	batch *zmtp.Batch
	uses  atomic.Int32
}

func (s *shared) release() {
	if s.uses.Add(-1) == 0 {
		s.batch.Release()
	}
}

// queueKey is what the order of batches is kept for.
type queueKey struct {
	peer uint64
	path string
}

// queued is a batch that waits for those before it.
type queued struct {
	intake
	memory *shared
	size   int
}

// enqueue gives a batch to the goroutine that writes those of its key, which is started if
// there is none. It waits while too much waits.
func (r *Receiver) enqueue(key queueKey, q queued) {
	r.queueMu.Lock()
	defer r.queueMu.Unlock()
	for r.waiting > 0 && r.waiting+q.size > maxWaiting {
		r.room.Wait()
	}
	r.waiting += q.size
	queue, running := r.queues[key]
	r.queues[key] = append(queue, q)
	if !running {
		r.writers.Go(func() { r.write(key) })
	}
}

// write writes the batches of a key until there are no more.
func (r *Receiver) write(key queueKey) {
	var batches []queued
	for {
		r.queueMu.Lock()
		clear(batches)
		batches, r.queues[key] = r.queues[key], batches[:0]
		if len(batches) == 0 {
			delete(r.queues, key)
			r.queueMu.Unlock()
			return
		}
		r.queueMu.Unlock()
		for i := range batches {
			q := &batches[i]
			_ = r.logger.put(r.ctx, &q.intake) // the Logger counts and logs what it drops
			q.memory.release()
			r.queueMu.Lock()
			r.waiting -= q.size
			r.queueMu.Unlock()
			r.room.Signal()
		}
	}
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
