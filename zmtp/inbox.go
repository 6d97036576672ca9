package zmtp

import (
	"bytes"
	"context"
	"sync"
)

// lane is what one peer has sent and nobody has received. It outlives its peer until it is empty.
type lane struct {
	room gate
	// The rest is guarded by inbox.mu.
	queue fifo[*Batch] // windows into the batches of the reads
	next  int          // first message of the first of them that was not received
	msgs  int
	bytes int64
	notes load // of these, notifications
	// See budget.
	pinned int64
	claim  claim
}

// inbox is the receiving end of a socket: a fair queue over its peers, message by message or batch
// by batch (libzmq's fq), with limits per peer and one for the memory of all.
type inbox struct {
	// ready has room for one signal: there may be something to receive. Who takes it and leaves
	// something behind gives it back.
	ready chan struct{}
	abort chan struct{} // closed when nobody receives any more

	mu       sync.Mutex
	hwm      int   // messages per peer, 0 for no limit
	maxBytes int64 // wire bytes per peer, 0 for no limit
	budget   budget
	lanes    fifo[*lane] // those that are not empty, in the order of their turn
	drained  bool        // nothing more will come
	aborted  bool
	msgs     int
	bytes    int64
	notes    load   // of these, notifications
	block    []byte // of the small messages that tryRecv returned last
}

// load is a number of messages and of their bytes on the wire.
type load struct {
	msgs  int
	bytes int64
}

func (l *load) add(msgs int, bytes int64) {
	l.msgs += msgs
	l.bytes += bytes
}

// maxNotes bounds the notifications that wait to be received, of all peers together.
const maxNotes = DefaultMaxSubscriptions

func newInbox(hwm int, maxBytes, totalBytes int64) *inbox {
	in := &inbox{hwm: hwm, maxBytes: maxBytes, ready: make(chan struct{}, 1),
		abort: make(chan struct{})}
	in.budget.limit.Store(totalBytes)
	return in
}

// limit changes the limits. What waits stays, also when it is above them.
func (in *inbox) limit(hwm int, maxBytes, totalBytes int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.hwm, in.maxBytes = hwm, maxBytes
	in.budget.limit.Store(totalBytes)
	in.budget.grant()
	for _, l := range in.lanes.all() { // who waits has a lane that is not empty
		l.room.open()
	}
}

// put queues the messages of b on l, and waits while l is full: that is the back-pressure on the
// peer. It returns how many messages were dropped because the inbox was discarded first.
func (in *inbox) put(l *lane, b *Batch) (dropped int) {
	k := in.keep(l, b)
	defer k.Release()
	for from := 0; from < k.Len(); {
		room := l.room.wait()
		in.mu.Lock()
		if in.aborted {
			in.mu.Unlock()
			return k.Len() - from
		}
		to := from
		bytes := int64(0)
		for to < k.Len() && in.fits(l, to-from, bytes) {
			bytes += k.wireBytes(to, to+1)
			to++
		}
		if to > from {
			if k.inbox != nil {
				k.slab.kept++
			}
			in.add(l, k.slice(from, to), bytes)
		}
		in.mu.Unlock()
		if to > from {
			in.signal()
			from = to
			continue
		}
		select {
		case <-room:
		case <-in.abort:
		}
	}
	return 0
}

// force queues b on l without regard to the limits. Unlike put it takes the batch over and does not
// wait.
func (in *inbox) force(l *lane, b *Batch) {
	in.mu.Lock()
	if in.aborted {
		in.mu.Unlock()
		b.Release()
		return
	}
	if in.budget.limit.Load() > 0 {
		in.budget.charge(l, int64(len(b.slab.buf)))
		in.count(l, b.slab)
		b.inbox = in
	}
	in.add(l, b, b.wireBytes(0, b.Len()))
	in.mu.Unlock()
	in.signal()
}

// notify is force for a notification, which does not count against the limits of l. It reports
// false when it has dropped it, because so many wait that nobody seems to receive.
func (in *inbox) notify(l *lane, b *Batch) bool {
	in.mu.Lock()
	full := in.notes.msgs >= maxNotes || in.maxBytes > 0 && in.notes.bytes >= in.maxBytes
	in.mu.Unlock()
	if full {
		b.Release()
		return false
	}
	b.note = true
	in.force(l, b)
	return true
}

// keep returns a batch with the messages of b that stays valid when the read loop goes on. It waits
// until the budget has room for it.
func (in *inbox) keep(l *lane, b *Batch) *Batch {
	used, shared := b.keeps()
	if in.budget.limit.Load() <= 0 {
		return b.keep(used, shared)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !shared:
		in.charge(l, used)
	case b.slab.kept == 0:
		in.charge(l, len(b.slab.buf))
	}
	k := b.keep(used, shared)
	in.count(l, k.slab)
	k.inbox = in
	return k
}

// reserve waits until there is room for a slab of size bytes for the read loop of the peer of l, if
// it is a large one, which an inbox with a budget counts, and reports whether it does. Then made or
// unreserve has to follow.
func (in *inbox) reserve(l *lane, size int) (counted bool) {
	if size <= largeSlab || in == nil || in.budget.limit.Load() <= 0 {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.charge(l, size)
	return true
}

// made says that s is what was reserved.
func (in *inbox) made(l *lane, s *slab) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.count(l, s)
}

// unreserve gives a reservation back that was not used.
func (in *inbox) unreserve(l *lane, size int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.budget.charge(l, -int64(size))
	in.budget.grant()
}

// charge waits until n bytes more are allowed for l and charges them. Caller holds the lock, which
// is given up while it waits.
func (in *inbox) charge(l *lane, n int) {
	if granted := in.budget.ask(l, int64(n)); granted != nil {
		in.mu.Unlock()
		<-granted
		in.mu.Lock()
	}
}

// count notes one more who has s, whose bytes are charged to l. Caller holds the lock.
func (in *inbox) count(l *lane, s *slab) {
	s.lane = l
	s.kept++
}

// released notes one less who has s.
func (in *inbox) released(s *slab) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if s.kept--; s.kept == 0 {
		in.budget.charge(s.lane, -int64(len(s.buf)))
		s.lane = nil
		in.budget.grant()
	}
}

// add queues b, which has that many wire bytes, on l. Caller holds the lock.
func (in *inbox) add(l *lane, b *Batch, bytes int64) {
	if l.queue.len() == 0 {
		in.lanes.push(l)
	}
	l.queue.push(b)
	l.msgs += b.Len()
	l.bytes += bytes
	in.msgs += b.Len()
	in.bytes += bytes
	if b.note {
		l.notes.add(b.Len(), bytes)
		in.notes.add(b.Len(), bytes)
	}
}

// waitRoom waits until l would take another message, which is the back-pressure for what was
// forced.
func (in *inbox) waitRoom(l *lane) {
	for {
		room := l.room.wait()
		in.mu.Lock()
		ok := in.aborted || in.fits(l, 0, 0)
		if ok {
			in.charge(l, 0)
		}
		in.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-room:
		case <-in.abort:
		}
	}
}

// fits reports whether a message may follow msgs messages of bytes bytes on l. One is always taken
// by an empty lane.
func (in *inbox) fits(l *lane, msgs int, bytes int64) bool {
	msgs += l.msgs - l.notes.msgs
	bytes += l.bytes - l.notes.bytes
	if in.hwm > 0 && msgs >= in.hwm {
		return false
	}
	return in.maxBytes <= 0 || msgs == 0 || bytes < in.maxBytes
}

func (in *inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// took takes n messages of bytes wire bytes of b, the first of l, off the books, and moves l to the
// end of the turn. Caller holds the lock.
func (in *inbox) took(l *lane, b *Batch, n int, bytes int64) (wake bool) {
	if b.note {
		l.notes.add(-n, -bytes)
		in.notes.add(-n, -bytes)
	}
	l.msgs -= n
	l.bytes -= bytes
	in.msgs -= n
	in.bytes -= bytes
	in.lanes.pop(1)
	if l.queue.len() > 0 {
		in.lanes.push(l)
	} else if l.claim.granted != nil {
		in.budget.grant() // a peer of whom nothing is queued may go on
	}
	// The low-water mark is half of the limit, so that a blocked reader restarts once a batch and
	// not once a message.
	return (in.hwm <= 0 || l.msgs-l.notes.msgs <= in.hwm/2) &&
		(in.maxBytes <= 0 || l.bytes-l.notes.bytes <= in.maxBytes/2)
}

// tryRecv returns the next message, which owns its memory. The error is ErrWouldBlock or ErrClosed.
func (in *inbox) tryRecv() (Message, error) {
	in.mu.Lock()
	if in.lanes.len() == 0 {
		defer in.mu.Unlock()
		return Message{}, in.emptyError()
	}
	l := in.lanes.all()[0]
	b := l.queue.all()[0]
	m := b.Message(l.next)
	m.wire = in.copy(m.wire)
	l.next++
	last := l.next == b.Len()
	if last {
		l.pop()
	}
	wake := in.took(l, b, 1, int64(len(m.wire)))
	in.finish(l, wake)
	if last {
		b.Release()
	}
	return m, nil
}

// Small messages are copied into blocks: an allocation costs as much as all else that receiving one
// takes. One that the application keeps holds its block.
const (
	blockSize = 4 << 10
	smallSize = blockSize / 8 // largest message that goes into a block, with its framing
)

// copy returns a copy of wire that the application owns. Caller holds the lock.
func (in *inbox) copy(wire []byte) []byte {
	n := len(wire)
	if n > smallSize {
		return bytes.Clone(wire) // make would clear the memory first
	}
	if cap(in.block)-len(in.block) < n {
		in.block = make([]byte, 0, blockSize)
	}
	in.block = append(in.block, wire...)
	return in.block[len(in.block)-n : len(in.block) : len(in.block)]
}

// tryRecvBatch returns what is left of the next batch, which the caller owns.
func (in *inbox) tryRecvBatch() (*Batch, error) {
	in.mu.Lock()
	if in.lanes.len() == 0 {
		defer in.mu.Unlock()
		return nil, in.emptyError()
	}
	l := in.lanes.all()[0]
	b := l.queue.all()[0]
	b.spans = b.spans[l.next:]
	l.pop()
	wake := in.took(l, b, b.Len(), b.wireBytes(0, b.Len()))
	in.finish(l, wake)
	return b, nil
}

// finish releases the lock after something was taken from l, and wakes who waits.
func (in *inbox) finish(l *lane, wake bool) {
	more := in.lanes.len() > 0 || in.drained
	in.mu.Unlock()
	if more {
		in.signal()
	}
	if wake {
		l.room.open()
	}
}

func (l *lane) pop() {
	l.queue.pop(1)
	l.next = 0
}

// emptyError is what receiving from an empty inbox gives. Caller holds the lock.
func (in *inbox) emptyError() error {
	if in.drained || in.aborted {
		in.signal() // for the next who waits
		return ErrClosed
	}
	return ErrWouldBlock
}

// wait repeats try until it gives something else than ErrWouldBlock or ctx ends.
func inboxWait[T any](ctx context.Context, in *inbox, try func() (T, error)) (T, error) {
	for {
		v, err := try()
		if err != ErrWouldBlock {
			return v, err
		}
		select {
		case <-in.ready:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

func (in *inbox) recv(ctx context.Context) (Message, error) {
	return inboxWait(ctx, in, in.tryRecv)
}

func (in *inbox) recvBatch(ctx context.Context) (*Batch, error) {
	return inboxWait(ctx, in, in.tryRecvBatch)
}

// finished says that no peer is left: what is queued can still be received, then comes ErrClosed.
func (in *inbox) finished() {
	in.mu.Lock()
	in.drained = true
	in.mu.Unlock()
	in.signal()
}

// discard drops everything, and all that is put from now on. It returns how many messages were
// dropped.
func (in *inbox) discard() int {
	in.mu.Lock()
	dropped := in.msgs
	var rest []*Batch
	if !in.aborted {
		in.aborted = true
		close(in.abort)
		for _, l := range in.lanes.all() {
			rest = append(rest, l.queue.all()...)
			l.queue, l.msgs, l.bytes, l.notes = fifo[*Batch]{}, 0, 0, load{}
		}
		in.lanes, in.msgs, in.bytes, in.notes = fifo[*lane]{}, 0, 0, load{}
		in.budget.grant() // those who wait have nothing queued now
	}
	in.mu.Unlock()
	for _, b := range rest {
		b.Release()
	}
	in.signal()
	return dropped
}

// level returns how much waits, and how much memory is charged to the budget.
func (in *inbox) level() (msgs int, bytes, pinned int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.msgs, in.bytes, in.budget.used
}
