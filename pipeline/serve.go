package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"zmtpd/zmtp"
)

// Receiver hands every log message of a PULL socket to each of its outlets.
//
// It always hands on what it has taken from the socket, so each message is either in the socket's
// accounts or in those of the Receiver and the outlets. [Receiver.Shutdown] followed by
// [Outlet.Close] loses nothing.
//
// The Receiver waits for an outlet that is full; meanwhile the nodes wait too.
type Receiver struct {
	// Static after Serve.
	pull    *zmtp.Pull
	outlets []*Outlet
	done    chan struct{} // closed when all is handed on
	acct    *Ledger       // has its own lock
	log     *slog.Logger

	mu     sync.Mutex
	nodes  map[*zmtp.Peer]*nodeIDs // guarded by mu; of the peers that have sent something
	cutOff bool                    // guarded by mu; peers that still send are closed
}

// Serve starts to hand on what pull receives, until Shutdown, or until the last message of a socket
// that its owner has shut down. It owns neither the socket nor the outlets. log is for operators;
// nil logs nothing.
func Serve(pull *zmtp.Pull, log *slog.Logger, outlets ...*Outlet) *Receiver {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{pull: pull, outlets: outlets, nodes: map[*zmtp.Peer]*nodeIDs{},
		done: make(chan struct{}), log: log}
	r.acct = NewLedger(log)
	go r.run()
	return r
}

// run hands the messages of each peer to the outlets.
func (r *Receiver) run() {
	defer close(r.done)
	var parts [][]byte
	for {
		b, err := r.pull.RecvBatch(context.Background())
		if err != nil {
			return // the socket is shut down and the last message taken
		}
		memory := newShared(b.Release)
		parts = logParts(parts, b.Message(b.Len()-1))
		source := r.note(b.Peer(), NodeOf(parts))
		for m := range b.Messages() {
			parts = logParts(parts, m)
			r.hand(source, parts, memory)
		}
		clear(parts)
		memory.release()
	}
}

// logParts returns the first five parts of m, in the memory of dst. A log message has four; one
// with more is refused, so the rest does not matter.
func logParts(dst [][]byte, m zmtp.Message) [][]byte {
	dst = dst[:0]
	for part := range m.Parts() {
		if dst = append(dst, part); len(dst) > 4 {
			break
		}
	}
	return dst
}

// hand gives a message to the outlets.
func (r *Receiver) hand(source string, parts [][]byte, memory *shared) {
	batch, e := ParseMessage(parts)
	if e != nil {
		r.acct.Refuse(NodeOf(parts), e)
		return
	}
	n := Counts{1, uint64(batch.NumRecords)}
	key := KeyOf(batch)
	from, log := r.acct.admit(parts[1], key, n)
	for _, o := range r.outlets {
		o.put(source, key, parts[1], parts[3], batch, memory)
	}
	r.acct.Wrote(log, Shares{{from, n}}, 0)
}

// Accounts returns the accounts of the messages. Written was handed to the outlets; Dropped was no
// log message.
func (r *Receiver) Accounts() Accounts {
	return r.acct.Accounts()
}

// Shutdown shuts the socket down and returns when everything that it received is with the outlets.
// It reads what the nodes have sent so far, and all that nodes have sent that have ended. It cuts
// off nodes that go on sending after half of the time that ctx leaves, at most 5 s, so that the
// other half remains for writing. When ctx ends first, the outlets give up, the socket or the
// outlets drop and count the rest, and the error is that of ctx.
func (r *Receiver) Shutdown(ctx context.Context) error {
	busy := maxBusy
	if deadline, ok := ctx.Deadline(); ok {
		busy = min(busy, time.Until(deadline)/2)
	}
	cut := time.AfterFunc(busy, r.cutOffSenders)
	defer cut.Stop()
	defer context.AfterFunc(ctx, func() {
		for _, o := range r.outlets {
			o.giveUp()
		}
	})()

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
		r.cutOffSender(p)
	}
}

// cutOffSender closes the connection of a peer unless it sends nothing more. Caller holds mu.
func (r *Receiver) cutOffSender(p *zmtp.Peer) {
	select {
	case <-p.Done():
		return // closed already, or about to end
	default:
	}
	if p.Ended() {
		return
	}
	r.log.Warn("node cut off, what it has sent and this logger has not read is lost: it goes on "+
		"sending during the shutdown", "peer", p.Remote())
	p.Close(errStillSending)
}

// nodeIDs are the first and the last node id that a peer has sent.
type nodeIDs struct{ first, last string }

// note remembers the node id of a message from p, which may be empty, and returns p's first one.
func (r *Receiver) note(p *zmtp.Peer, node []byte) (first string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cutOff {
		r.cutOffSender(p)
	}
	if len(node) > maxNodeID {
		node = nil
	}
	ids := r.nodes[p]
	if ids == nil {
		// Entries of lost peers go, so that there are never more entries than peers.
		for q := range r.nodes {
			select {
			case <-q.Done():
				delete(r.nodes, q)
			default:
			}
		}
		ids = &nodeIDs{first: string(node)}
		r.nodes[p] = ids
	}
	if ids.last != string(node) {
		ids.last = string(node)
	}
	return ids.first
}

// Nodes returns the node id in the last message of each peer, by [zmtp.PeerStats.ID]. An id is any
// bytes, at most 256. Peers that have gone may still be among them.
func (r *Receiver) Nodes() map[uint64]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[uint64]string, len(r.nodes))
	for p, node := range r.nodes {
		if node.last != "" {
			ids[p.ID()] = node.last
		}
	}
	return ids
}
