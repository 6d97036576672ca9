package zmtp

import (
	"bytes"
	"context"
	"sync"
)

// inbox is the receiving end of a socket: a fair queue over its peers, with limits for each peer
// and one for the memory of all.
type inbox struct {
	// ready has room for one signal: there may be something to receive. A receiver that takes the
	// signal and leaves something in the queue gives it back.
	ready chan struct{}
	abort chan struct{} // closed when the application receives no more
	// watchers are told of every signal; nil if there can be none.
	watchers *watchers

	mu       sync.Mutex
	hwm      int   // messages per peer, 0 for no limit
	maxBytes int64 // wire bytes per peer, 0 for no limit
	budget   budget
	queue    fairQueue
	drained  bool // nothing more will come
	aborted  bool
	block    []byte // of the small messages that tryRecv returned last
}

// maxNotes bounds the notifications that wait to be received, of all peers together.
const maxNotes = DefaultMaxSubscriptions

func newInbox(hwm int, maxBytes, totalBytes int64) *inbox {
	in := &inbox{hwm: hwm, maxBytes: maxBytes, ready: make(chan struct{}, 1),
		abort: make(chan struct{})}
	in.budget.limit.Store(totalBytes)
	return in
}

// limit changes the limits. It drops nothing, also when the queue is above them.
func (in *inbox) limit(hwm int, maxBytes, totalBytes int64) {
	in.mu.Lock()
	in.hwm, in.maxBytes = hwm, maxBytes
	in.budget.limit.Store(totalBytes)
	in.budget.grant()
	wake := in.wakeAll()
	in.mu.Unlock()
	wake()
}

// wakeAll returns what the caller calls without the lock, so that all that wait for room try again.
func (in *inbox) wakeAll() func() {
	var all []func()
	for _, p := range in.queue.pipes.all() { // a pipe that is waited for is not empty
		all = append(all, p.room.open, p.wakes())
	}
	return func() {
		for _, f := range all {
			f()
		}
	}
}

// put queues the messages of b on p, and waits while p is full: that is the back-pressure on the
// peer. It returns how many messages were dropped because the inbox was discarded first.
func (in *inbox) put(p *inPipe, b *Batch) (dropped int) {
	k := in.keep(p, b)
	defer k.Release()
	for from := 0; from < k.Len(); {
		room := p.room.wait()
		in.mu.Lock()
		if in.aborted {
			in.mu.Unlock()
			return k.Len() - from
		}
		to := from
		bytes := int64(0)
		for to < k.Len() && in.fits(p, to-from, bytes) {
			bytes += k.wireBytes(to, to+1)
			to++
		}
		if to > from {
			if k.inbox != nil {
				k.slab.kept++
			}
			in.queue.push(p, k.slice(from, to), bytes)
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

// replace queues the last message of b on p in place of all that is queued there. It does not wait,
// and returns how many messages were dropped for it.
func (in *inbox) replace(p *inPipe, b *Batch) (dropped int) {
	n := b.Len()
	last := b.Keep([]Run{{n - 1, n}})
	in.mu.Lock()
	if in.aborted {
		in.mu.Unlock()
		last.Release()
		return n
	}
	if in.budget.limit.Load() > 0 && last.slab.kept == 0 {
		in.budget.charge(p, int64(len(last.slab.buf)))
	}
	if in.budget.limit.Load() > 0 {
		in.count(p, last.slab)
		last.inbox = in
	}
	old, msgs := in.queue.replace(p, last)
	in.mu.Unlock()
	in.signal()
	for _, b := range old {
		b.Release()
	}
	return n - 1 + msgs
}

// force queues b on p without regard to the limits. Unlike put it takes ownership of b and does not
// wait.
func (in *inbox) force(p *inPipe, b *Batch) {
	in.mu.Lock()
	if in.aborted {
		in.mu.Unlock()
		b.Release()
		return
	}
	if in.budget.limit.Load() > 0 {
		in.budget.charge(p, int64(len(b.slab.buf)))
		in.count(p, b.slab)
		b.inbox = in
	}
	in.queue.push(p, b, b.wireBytes(0, b.Len()))
	in.mu.Unlock()
	in.signal()
}

// notify is force for a notification, which does not count against the limits of p. When so many
// wait that the application seems not to receive, it drops the notification and reports false.
func (in *inbox) notify(p *inPipe, b *Batch) bool {
	in.mu.Lock()
	notes := in.queue.notes
	full := notes.msgs >= maxNotes || in.maxBytes > 0 && notes.bytes >= in.maxBytes
	in.mu.Unlock()
	if full {
		b.Release()
		return false
	}
	b.note = true
	in.force(p, b)
	return true
}

// keep returns a batch with the messages of b that stays valid when the read loop continues. It
// waits until the budget has room for the batch.
func (in *inbox) keep(p *inPipe, b *Batch) *Batch {
	used, shared := b.keeps()
	if in.budget.limit.Load() <= 0 {
		return b.keep(used, shared)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !shared:
		in.charge(p, used)
	case b.slab.kept == 0:
		in.charge(p, len(b.slab.buf))
	}
	k := b.keep(used, shared)
	in.count(p, k.slab)
	k.inbox = in
	return k
}

// reserve waits until the budget has room for a slab of size bytes for the read loop of p's peer,
// and charges it. It reports false without waiting if the slab does not count: it is not large, or
// there is no budget. If it reports true, the caller calls made or unreserve next.
func (in *inbox) reserve(p *inPipe, size int) (counted bool) {
	if size <= largeSlab || in == nil || in.budget.limit.Load() <= 0 {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.charge(p, size)
	return true
}

// made assigns a reservation to s, the slab that was made for it.
func (in *inbox) made(p *inPipe, s *slab) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.count(p, s)
}

// unreserve gives a reservation back that was not used.
func (in *inbox) unreserve(p *inPipe, size int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.budget.charge(p, -int64(size))
	in.budget.grant()
}

// charge waits until n bytes more are allowed for p, and charges them. Caller holds the lock;
// charge unlocks it while it waits.
func (in *inbox) charge(p *inPipe, n int) {
	if granted := in.budget.ask(p, int64(n)); granted != nil {
		in.mu.Unlock()
		<-granted
		in.mu.Lock()
	}
}

// count counts one more reference to s, whose bytes are charged to p. Caller holds the lock.
func (in *inbox) count(p *inPipe, s *slab) {
	s.pipe = p
	s.kept++
}

// released counts one reference to s less.
func (in *inbox) released(s *slab) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if s.kept--; s.kept == 0 {
		in.budget.charge(s.pipe, -int64(len(s.buf)))
		s.pipe = nil
		in.budget.grant()
	}
}

// waitRoom waits until p has room for a message. That is the back-pressure after force.
func (in *inbox) waitRoom(p *inPipe) {
	for {
		room := p.room.wait()
		in.mu.Lock()
		ok := in.aborted || in.fits(p, 0, 0)
		if ok {
			in.charge(p, 0)
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

// fits reports whether p has room for a message behind msgs messages of bytes bytes. An empty pipe
// has room for one of any size.
func (in *inbox) fits(p *inPipe, msgs int, bytes int64) bool {
	msgs += p.msgs - p.notes.msgs
	bytes += p.bytes - p.notes.bytes
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
	in.watchers.open()
}

// tryRecv returns the next message, which owns its memory. The error is ErrWouldBlock or ErrClosed.
func (in *inbox) tryRecv() (Message, error) {
	in.mu.Lock()
	if in.queue.empty() {
		defer in.mu.Unlock()
		return Message{}, in.emptyError()
	}
	p, m, owned, last := in.queue.takeMessage()
	if !owned || len(p.envelope) > 0 {
		m.wire = in.copy(p.envelope, m.wire)
	}
	in.took(p)
	if last != nil {
		last.Release()
	}
	return m, nil
}

// Small messages are copied into blocks, since an allocation costs as much as everything else in
// receiving one. A message that the application keeps keeps its block.
const (
	blockSize = 4 << 10
	smallSize = blockSize / 8 // largest message that goes into a block, with its framing
)

// copy returns a copy of wire behind envelope that the application owns. Caller holds the lock.
func (in *inbox) copy(envelope, wire []byte) []byte {
	n := len(envelope) + len(wire)
	if n > smallSize {
		// make would clear the memory first
		if len(envelope) > 0 {
			return bytes.Join([][]byte{envelope, wire}, nil)
		}
		return bytes.Clone(wire)
	}
	if cap(in.block)-len(in.block) < n {
		in.block = make([]byte, 0, blockSize)
	}
	in.block = append(append(in.block, envelope...), wire...)
	return in.block[len(in.block)-n : len(in.block) : len(in.block)]
}

// tryRecvBatch returns what is left of the next batch, which the caller owns.
func (in *inbox) tryRecvBatch() (*Batch, error) {
	in.mu.Lock()
	if in.queue.empty() {
		defer in.mu.Unlock()
		return nil, in.emptyError()
	}
	p, b := in.queue.takeBatch()
	in.took(p)
	if b.loose != nil {
		b = b.gather()
	}
	if len(p.envelope) > 0 {
		return b.within(p.envelope), nil
	}
	return b, nil
}

// took releases the lock after something was taken from p, and wakes those that wait.
func (in *inbox) took(p *inPipe) {
	if p.queue.len() == 0 && p.claim.granted != nil {
		in.budget.grant() // a peer of which nothing is queued may go on
	}
	// The low-water mark is half of the limit, so that a blocked reader restarts once a batch and
	// not once a message.
	wake := (in.hwm <= 0 || p.msgs-p.notes.msgs <= in.hwm/2) &&
		(in.maxBytes <= 0 || p.bytes-p.notes.bytes <= in.maxBytes/2)
	more := !in.queue.empty() || in.drained
	var drained func()
	if p.refused && (p.low.msgs == 0 || p.msgs-p.notes.msgs <= p.low.msgs) &&
		(p.low.bytes == 0 || p.bytes-p.notes.bytes <= p.low.bytes) {
		drained = p.wakes()
	}
	in.mu.Unlock()
	if more {
		in.signal()
	}
	if drained != nil {
		drained()
	}
	if wake {
		p.room.open()
	}
}

// emptyError returns the error for an empty inbox. Caller holds the lock.
func (in *inbox) emptyError() error {
	if in.drained || in.aborted {
		in.signal() // for the next receiver that waits
		return ErrClosed
	}
	return ErrWouldBlock
}

// inboxWait repeats try until it returns something other than ErrWouldBlock, or ctx ends.
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

// finished ends the inbox when no peer is left: after the queued messages, receiving returns
// ErrClosed.
func (in *inbox) finished() {
	in.mu.Lock()
	in.drained = true
	in.mu.Unlock()
	in.signal()
}

// discard drops what is queued, and whatever is put after that. It returns how many messages were
// queued.
func (in *inbox) discard() int {
	in.mu.Lock()
	dropped := in.queue.msgs
	var rest []*Batch
	wake := func() {}
	if !in.aborted {
		in.aborted = true
		close(in.abort)
		wake = in.wakeAll()
		rest = in.queue.clear()
		in.budget.grant() // those that wait have nothing queued now
	}
	in.mu.Unlock()
	wake()
	for _, b := range rest {
		b.Release()
	}
	in.signal()
	return dropped
}

// holds reports whether something of p is queued.
func (in *inbox) holds(p *inPipe) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return p.msgs > 0
}

// level returns the queued messages and bytes, and the memory that is charged to the budget.
func (in *inbox) level() (msgs int, bytes, pinned int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queue.msgs, in.queue.bytes, in.budget.used
}
