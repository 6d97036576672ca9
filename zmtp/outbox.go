package zmtp

import (
	"sync"

	"zmtpd/zmtp/memory"
)

const (
	// chunkSize is the size of the pieces into which small messages are copied.
	chunkSize = 64 << 10
	// referSize is the size in bytes from which on messages are sent from the memory in which they
	// are. Smaller ones are copied, so that a queue of many has few pieces. See also referred.
	referSize = slabSize / 4
	// maxControl bounds in bytes the PONGs for a peer that sends PINGs and does not read. Beyond it
	// they are not held back (see backlog), and the peer is not read until they are written.
	maxControl = 64 << 10
)

// chunk is a piece of the outbound stream: whole messages and commands, never a piece of one.
type chunk struct {
	b      []byte
	mem    *slab // b's memory if it was made for b and comes from a pool
	slab   *slab // b's memory if it is shared with what was read
	msgs   int   // how many messages b holds
	forced int   // how many of its bytes no limit applies to
	// bytes reserved for it in the memory budget, or pinned if it has a slab
	reserved int
}

// free gives the memory of a chunk back, which is counted for holder.
func (c *chunk) free(holder *memory.Holder) {
	if c.mem != nil {
		c.mem.release()
	}
	if c.slab != nil {
		c.slab.release()
		holder.Unpin(int64(c.reserved))
	} else {
		holder.Release(int64(c.reserved))
	}
}

// outbox is the queue of one peer's connection: whole messages in wire form, under two limits, and
// commands, which are exempt from them. A message counts until the kernel has it.
type outbox struct {
	// ready has room for one signal: something was put into an outbox that the writer has found
	// empty.
	ready chan struct{}
	// onRoom, if set, is called without the lock when a full outbox has drained to half of its
	// limits.
	onRoom func()
	room   gate
	// replaced, if set, makes the outbox keep only the last message, see Config.Conflate. It is
	// called without the lock with the number of messages that were dropped.
	replaced func(int)
	// memory is the account for what waits. Without its consent there is only the chunk of a
	// message in an outbox that is otherwise empty.
	memory *memory.Holder

	mu        sync.Mutex
	inlet     *Peer // at the other end of an inproc connection, see direct.go; else nil
	refer     int   // the size from which on messages are not copied
	hwm       int   // whole messages, 0 for no limit
	maxBytes  int64 // wire bytes, 0 for no limit
	maxForced int64 // bytes that the peer may leave unread and to which the limits do not apply
	chunks    fifo[chunk]
	greeting  []byte  // a message that is sent before all others on each connection
	control   []byte  // commands that overtake the messages: PING, PONG
	msgs      int     // not yet written, with those under way
	bytes     int64   // likewise
	forced    int64   // of these, bytes to which the limits do not apply
	full      bool    // has refused something and not drained since
	awaited   bool    // there is a waiter for the time when nothing is left
	idle      bool    // the writer waits for ready
	closed    bool    // takes nothing more
	sent      Traffic // ever taken
	returned  int     // of these, messages that reclaim took out again
	written   uint64  // bytes handed to the kernel, ever
}

func newOutbox(hwm int, maxBytes int64, holder *memory.Holder) *outbox {
	o := &outbox{ready: make(chan struct{}, 1), idle: true, memory: holder, refer: referSize}
	o.limit(hwm, maxBytes)
	return o
}

// referFrom sets the size in bytes from which on messages are not copied.
func (o *outbox) referFrom(size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refer = size
}

// conflate makes an empty outbox keep only the last message.
func (o *outbox) conflate(replaced func(int)) {
	o.replaced = replaced
	o.limit(0, 0)
}

// limit changes the limits. Nothing is dropped: an outbox above its limits takes nothing more until
// it is below them.
func (o *outbox) limit(hwm int, maxBytes int64) {
	o.mu.Lock()
	if o.replaced != nil {
		hwm, maxBytes = 0, 0 // one message waits
	}
	o.hwm, o.maxBytes, o.maxForced = hwm, maxBytes, maxBytes
	if maxBytes <= 0 {
		o.maxForced = DefaultQueueBytes
	}
	// No peer is closed for subscriptions that were within the limit when they were queued.
	o.maxForced = max(o.maxForced, o.forced)
	drained := o.drain()
	o.mu.Unlock()
	if drained {
		o.wakeWaiters()
	}
}

// fits reports whether a message of n wire bytes is within the limits. A message above the limit on
// bytes fits into an empty outbox; else it could never be sent.
func (o *outbox) fits(n int64) bool {
	if o.closed || o.hwm > 0 && o.msgs >= o.hwm {
		return false
	}
	return o.maxBytes <= 0 || o.bytes+n <= o.maxBytes || o.msgs == 0
}

// offer appends messages of b, the given runs in order, until one does not fit, and returns how
// many it has appended. Adjacent messages are copied together, or referred to if they have many
// bytes.
func (o *outbox) offer(b *Batch, runs []Run) (took int) {
	if o.replaced != nil {
		return o.offerLast(b, runs)
	}
	o.mu.Lock()
	for _, r := range runs {
		n, passed := 0, false
		if o.inlet != nil {
			n, passed = o.passRun(b, r)
		}
		if !passed {
			n += o.offerRun(b, Run{r.From + n, r.To})
		}
		took += n
		if n < r.To-r.From {
			o.full = true
			break
		}
	}
	o.sent.Messages += uint64(took)
	o.unlockAndSignal(took > 0)
	return took
}

// offerLast puts the last message of runs in the place of what waits.
func (o *outbox) offerLast(b *Batch, runs []Run) (took int) {
	for _, r := range runs {
		took += r.To - r.From
	}
	last := runs[len(runs)-1].To - 1
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return 0
	}
	lost := took - 1 + o.discardMessages()
	o.offerRun(b, Run{last, last + 1})
	o.sent.Messages++
	o.unlockAndSignal(true)
	o.replaced(lost)
	return took
}

// discardMessages drops the messages that wait and are not under way, and returns their number.
// Caller holds the lock. It is for outboxes without subscriptions.
func (o *outbox) discardMessages() (lost int) {
	for _, c := range o.chunks.all() {
		lost += c.msgs
		o.bytes -= int64(len(c.b))
		c.free(o.memory)
	}
	o.chunks = fifo[chunk]{}
	o.msgs -= lost
	return lost
}

// offerRun appends as many messages of one run as fit and returns their number. Caller holds the
// lock.
func (o *outbox) offerRun(b *Batch, r Run) int {
	i := r.From
	for i < r.To {
		first, start := i, b.spans[i].start
		end := start
		must := o.msgs == 0
		var sent Traffic
		for i < r.To {
			s := &b.spans[i]
			n := int64(s.end - s.start)
			if s.start != end || !o.fits(n) {
				break
			}
			o.msgs++
			o.bytes += n
			sent.Add(Traffic{Parts: uint64(s.parts), Bytes: uint64(s.bytes)})
			end = s.end
			i++
		}
		if i == first {
			break
		}
		if !o.putRun(b, start, end, i-first, must) {
			o.msgs -= i - first
			o.bytes -= int64(end - start)
			i = first
			break
		}
		o.sent.Add(sent)
	}
	return i - r.From
}

// putRun puts msgs adjacent messages of b into a chunk. Unless must is set, it reports false if the
// memory budget has no room for them. Caller holds the lock.
func (o *outbox) putRun(b *Batch, start, end, msgs int, must bool) bool {
	run := b.slab.buf[start:end:end]
	if referred(len(run), b.slab) {
		if !o.memory.TryPin(int64(len(run))) {
			if !must {
				return false
			}
			o.memory.Pin(int64(len(run)))
		}
		b.slab.retain()
		o.chunks.push(chunk{b: run, slab: b.slab, msgs: msgs, reserved: len(run)})
		return true
	}
	c := o.tail(len(run), must)
	if c == nil {
		return false
	}
	c.b = append(c.b, run...)
	c.msgs += msgs
	return true
}

// referred reports whether n bytes of s are sent from where they are. So a chunk that shares memory
// pins at most four times as much as it counts.
func referred(n int, s *slab) bool { return n >= max(referSize, len(s.buf)/4) }

// tail returns the last chunk, with room for n bytes. Unless must is set, it returns nil if that
// needs a new one for which the memory budget has no room. Caller holds the lock.
func (o *outbox) tail(n int, must bool) *chunk {
	queued := o.chunks.all()
	if last := len(queued) - 1; last >= 0 {
		if c := &queued[last]; c.mem != nil && cap(c.b)-len(c.b) >= n {
			return c
		}
	}
	c := chunk{reserved: max(n, chunkSize)}
	if !o.reserve(c.reserved, must) {
		return nil
	}
	if n > chunkSize {
		c.b = make([]byte, 0, n)
	} else {
		c.mem = newSlab(chunkSize)
		c.b = c.mem.buf[:0]
	}
	o.chunks.push(c)
	return &o.chunks.items[len(o.chunks.items)-1]
}

// reserve reserves n bytes in the memory budget, if there is room for them or must is set.
func (o *outbox) reserve(n int, must bool) bool {
	if o.memory.TryReserve(int64(n)) {
		return true
	}
	if must {
		o.memory.Add(int64(n))
	}
	return must
}

// offerMessage appends m if it fits.
func (o *outbox) offerMessage(m Message) bool {
	if o.replaced != nil {
		b := batchOf(m)
		return o.offer(b, []Run{{0, 1}}) == 1
	}
	o.mu.Lock()
	if o.inlet != nil {
		if ok, passed := o.pass(m); passed {
			o.mu.Unlock()
			return ok
		}
	}
	ok := o.fits(int64(len(m.wire))) && o.put(m, o.msgs == 0)
	if ok {
		o.msgs++
		o.bytes += int64(len(m.wire))
		parts, bytes := m.counts()
		o.sent.Add(Traffic{1, uint64(parts), uint64(bytes)})
	} else {
		o.full = true
	}
	o.unlockAndSignal(ok)
	return ok
}

// put puts m into a chunk. Unless must is set, it reports false if the memory budget has no room
// for m. Caller holds the lock.
func (o *outbox) put(m Message, must bool) bool {
	if len(m.wire) >= o.refer {
		if !o.reserve(len(m.wire), must) {
			return false
		}
		o.chunks.push(chunk{b: m.wire, msgs: 1, reserved: len(m.wire)})
		return true
	}
	c := o.tail(len(m.wire), must)
	if c == nil {
		return false
	}
	c.b = append(c.b, m.wire...)
	c.msgs++
	return true
}

// hasRoom reports whether a message of n wire bytes would be taken now.
func (o *outbox) hasRoom(n int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inlet != nil {
		return o.passFits()
	}
	return o.fits(n)
}

// awaitRoom is hasRoom. If it is false, it wakes those that wait for room when the outbox has
// drained.
func (o *outbox) awaitRoom(n int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inlet != nil {
		return o.passFits()
	}
	fits := o.fits(n)
	o.full = o.full || !fits
	return fits
}

// writable reports whether the outbox has room, and has drained since it last refused a message
// (libzmq, pipe.cpp, check_write). If not, it wakes those that wait for room when it has drained.
func (o *outbox) writable() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	fits := o.inlet == nil && o.fits(0) || o.inlet != nil && o.passFits()
	o.full = o.full || !fits
	return !o.full
}

// force appends one frame to which the limits do not apply, a subscription with size bytes of
// content. It reports whether the outbox holds at most maxForced bytes of such frames.
func (o *outbox) force(frame []byte, size int) bool {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return true
	}
	o.bytes += int64(len(frame))
	o.forced += int64(len(frame))
	o.sent.Add(Traffic{1, 1, uint64(size)})
	c := o.tail(len(frame), true)
	c.b = append(c.b, frame...)
	c.forced += len(frame)
	ok := o.forced <= o.maxForced
	o.unlockAndSignal(true)
	return ok
}

// forcedLevel returns how many bytes wait to which the limits do not apply, and how many may wait.
func (o *outbox) forcedLevel() (bytes, limit int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.forced, o.maxForced
}

// command appends a command that overtakes the messages. It reports whether the caller may go on to
// read; if not, so many commands wait that it should wait for room.
func (o *outbox) command(frame []byte) bool {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return true
	}
	o.control = append(o.control, frame...)
	ok := len(o.control) <= maxControl
	o.unlockAndSignal(true)
	return ok
}

// controlWaits reports whether too many commands wait, and returns the channel to wait on.
func (o *outbox) controlWaits() (<-chan struct{}, bool) {
	ch := o.room.wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return ch, len(o.control) > maxControl && !o.closed
}

func (o *outbox) unlockAndSignal(put bool) {
	wake := put && o.idle
	if wake {
		o.idle = false
	}
	o.mu.Unlock()
	if wake {
		o.wake()
	}
}

// greet puts m before everything else that is sent on the connection that begins. The limits do not
// apply.
func (o *outbox) greet(m Message) {
	parts, bytes := m.counts()
	o.mu.Lock()
	o.greeting = append(o.greeting, m.wire...)
	o.sent.Add(Traffic{1, uint64(parts), uint64(bytes)})
	o.unlockAndSignal(true)
}

// take moves up to about limit bytes into dst. The greeting and commands come first, as control
// bytes in the first chunk. It asks hold whether commands and subscriptions, if there are any, have
// to wait. It returns nothing when there is nothing to write; then the next put signals ready.
func (o *outbox) take(dst []chunk, limit int, hold func() bool) (taken []chunk, control int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	commands := len(o.control) > 0 && len(o.control) <= maxControl
	held := (commands || o.forced > 0 && o.forced <= maxHeld) && hold()
	first := o.greeting
	o.greeting = nil
	if len(o.control) > 0 && !(held && commands) {
		first = append(first, o.control...)
		o.control = nil
	}
	if control = len(first); control > 0 {
		dst = append(dst, chunk{b: first})
	}
	size, n := 0, 0
	queued := o.chunks.all()
	for n < len(queued) && (size == 0 || size+len(queued[n].b) <= limit) {
		if held && queued[n].forced > 0 && o.forced <= maxHeld {
			break
		}
		size += len(queued[n].b)
		n++
	}
	dst = append(dst, queued[:n]...)
	o.chunks.pop(n)
	o.idle = len(dst) == 0
	return dst, control
}

// wake makes the writer call take again.
func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// hangUp drops greeting and commands: they belong to the connection that has ended.
func (o *outbox) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.greeting, o.control, o.inlet = nil, nil, nil
}

// isClosed reports whether the outbox takes nothing more.
func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// traffic counts all messages that the outbox has taken so far.
func (o *outbox) traffic() Traffic {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent
}

// finished reports whether the outbox is closed and everything that it has taken is written.
func (o *outbox) finished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed && o.nothing()
}

// progress counts n bytes as handed to the kernel.
func (o *outbox) progress(n int) {
	o.memory.Progress(n)
	o.mu.Lock()
	o.written += uint64(n)
	o.mu.Unlock()
}

// done removes the chunks that take has returned, which are written or lost, gives their memory
// back, and returns how many messages they hold.
func (o *outbox) done(taken []chunk, control int) int {
	msgs, bytes, forced := 0, -control, 0
	for i := range taken {
		msgs += taken[i].msgs
		bytes += len(taken[i].b)
		forced += taken[i].forced
		taken[i].free(o.memory)
	}
	clear(taken)
	o.account(-msgs, -bytes, -forced)
	if control > maxControl {
		o.room.open()
	}
	return msgs
}

// account changes the queued amounts and wakes those that wait for room.
func (o *outbox) account(msgs, bytes, forced int) {
	o.mu.Lock()
	o.msgs += msgs
	o.bytes += int64(bytes)
	o.forced += int64(forced)
	drained := o.drain()
	o.mu.Unlock()
	if drained {
		o.wakeWaiters()
	}
}

// drain reports whether a full outbox has come down to half of its limits (libzmq's low-water
// mark), or one that is awaited has become empty. Caller holds the lock.
func (o *outbox) drain() bool {
	if o.awaited && o.nothing() {
		o.awaited, o.full = false, false
		return true
	}
	if !o.full || o.hwm > 0 && o.msgs > o.hwm/2 || o.maxBytes > 0 && o.bytes > o.maxBytes/2 {
		return false
	}
	o.full = false
	return true
}

func (o *outbox) wakeWaiters() {
	o.room.open()
	if o.onRoom != nil {
		o.onRoom()
	}
}

// close makes the outbox refuse everything. With discard it drops what waits. It returns how many
// messages it has dropped.
func (o *outbox) close(discard bool) int {
	o.mu.Lock()
	o.closed = true
	lost := 0
	if discard {
		lost = o.discard()
	}
	o.unlockAndSignal(true)
	o.wakeWaiters()
	return lost
}

// discard drops what waits. Caller holds the lock.
func (o *outbox) discard() int {
	lost := 0
	for _, c := range o.chunks.all() {
		lost += c.msgs
		o.bytes -= int64(len(c.b))
		o.forced -= int64(c.forced)
		c.free(o.memory)
	}
	o.chunks, o.greeting, o.control = fifo[chunk]{}, nil, nil
	o.msgs -= lost
	return lost
}

// empty reports whether nothing waits or is under way.
func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nothing()
}

// nothing is empty for a caller that holds the lock.
func (o *outbox) nothing() bool {
	return o.msgs == 0 && o.bytes == 0 && len(o.control) == 0 && len(o.greeting) == 0
}

// awaitEmpty is empty. If it is false, those that wait for room are woken when it has become true.
func (o *outbox) awaitEmpty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.awaited = !o.nothing()
	return !o.awaited
}

// level returns the queued messages and bytes and all bytes ever written.
func (o *outbox) level() (msgs int, bytes int64, written uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.msgs, o.bytes, o.written
}
