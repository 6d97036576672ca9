package zmtp

// Over inproc a sender queues its messages in the inbox of the receiving socket itself, as the
// sockets of libzmq share a pipe (ctx.cpp, connect_inproc_sockets): no goroutine stands in between,
// and a message is neither copied nor parsed. The queue of a connection then has the room of both
// sockets: SendHWM and RecvHWM messages, SendBytes and RecvBytes.
//
// That needs a receiving socket that queues all that it gets (queuesAll) and has no memory budget,
// and no mechanism that protects the traffic. Commands, and the messages of other connections, go
// through the write loop and the read loop, see handover.go.

// queuesAll is a Pattern whose Receive does no more than queue the messages for the application.
type queuesAll interface{ queuesAll() }

func (*pullPattern) queuesAll()   {}
func (*pairPattern) queuesAll()   {}
func (*dealerPattern) queuesAll() {}
func (*xsubPattern) queuesAll()   {}

// publishInlet tells the other end of an inproc connection whether it may queue its messages here.
func (p *Peer) publishInlet() {
	in, _ := p.handsOver()
	if in == nil {
		return
	}
	_, ok := p.socket.pattern.(queuesAll)
	if cfg := &p.socket.cfg; !ok || cfg.Conflate || cfg.Memory != nil {
		p = nil
	}
	in.inlet <- p
}

// findInlet waits until the other end of an inproc connection has called publishInlet. The write
// loop calls it before it writes anything.
func (p *Peer) findInlet() {
	_, out := p.handsOver()
	if out == nil {
		return
	}
	select {
	case to := <-out.inlet:
		if to != nil {
			p.outbox.link(to)
			p.outbox.drained()
		}
	case <-p.done:
	}
}

// link makes the outbox queue messages in the inbox of to, beginning with those that wait here.
// None may be under way.
func (o *outbox) link(to *Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.replaced != nil || o.forced > 0 || !o.admittedBy(to) ||
		!to.socket.inbox.link(&to.inPipe, o.drained) {
		return
	}
	o.inlet = to
	waiting := append(cutMessages(nil, o.greeting), o.takeOut()...)
	o.greeting = nil
	for _, m := range waiting {
		parts, bytes := m.counts()
		s := span{0, len(m.wire), parts, bytes}
		if o.inlet != nil {
			// They had room here: no limit applies.
			if _, open := to.socket.inbox.accept(to, m.wire, s, load{}); open {
				continue
			}
			o.inlet = nil
		}
		o.put(m, true)
		o.msgs++
		o.bytes += int64(len(m.wire))
	}
}

// admittedBy reports whether to admits all messages that wait. Caller holds the lock.
func (o *outbox) admittedBy(to *Peer) bool {
	for _, c := range o.chunks.all() {
		for _, m := range cutMessages(nil, c.b) {
			if parts, _ := m.counts(); !to.admits(len(m.wire), parts) {
				return false
			}
		}
	}
	return true
}

// drained wakes those that wait for room: the receiver has made some in a queue that was full, or
// has closed the queue.
func (o *outbox) drained() {
	o.mu.Lock()
	o.full = false
	o.mu.Unlock()
	o.wakeWaiters()
}

// capacity returns the limits of the outbox. Caller holds the lock.
func (o *outbox) capacity() load { return load{o.hwm, o.maxBytes} }

// pass queues m in the inlet if there is room. It reports false for passed if m has to wait here:
// then the inlet is not used any more. Caller holds the lock.
func (o *outbox) pass(m Message) (ok, passed bool) {
	to := o.inlet
	if o.closed {
		return false, true
	}
	parts, bytes := m.counts()
	if to.admits(len(m.wire), parts) {
		s := span{0, len(m.wire), parts, bytes}
		if ok, open := to.socket.inbox.accept(to, m.wire, s, o.capacity()); open {
			if ok {
				o.sent.Add(Traffic{1, uint64(parts), uint64(bytes)})
			}
			o.full = o.full || !ok
			return ok, true
		}
	}
	o.inlet = nil
	return false, false
}

// passRun is pass for messages of b, and returns how many it has queued.
func (o *outbox) passRun(b *Batch, r Run) (took int, passed bool) {
	to := o.inlet
	if o.closed {
		return 0, true
	}
	fit, open := r.From, true
	for fit < r.To && to.admits(b.spans[fit].end-b.spans[fit].start, b.spans[fit].parts) {
		fit++
	}
	if fit > r.From {
		took, open = to.socket.inbox.acceptRun(to, b, Run{r.From, fit}, o.capacity())
		parts, bytes := b.Counts(r.From, r.From+took)
		o.sent.Add(Traffic{uint64(took), uint64(parts), uint64(bytes)})
	}
	if !open || fit < r.To && took == fit-r.From {
		o.inlet = nil
		return took, false
	}
	return took, true
}

// passFits reports whether the inlet has room for a message, or is not used any more. If it has
// none, those that wait for room are woken when it has. Caller holds the lock.
func (o *outbox) passFits() bool {
	return !o.closed && o.inlet.socket.inbox.hasRoomFor(&o.inlet.inPipe, o.capacity())
}

// admits reports whether the limits on messages that are received allow one of size bytes on the
// wire for certain. The read loop decides on others, and closes the connection if it must.
func (p *Peer) admits(size, parts int) bool {
	live := p.socket.live.Load()
	return (live.MaxMessageSize <= 0 || int64(size) <= live.MaxMessageSize) &&
		(live.MaxParts <= 0 || parts <= live.MaxParts)
}

// link lets a sender queue its messages for p here. drained is called without the lock when a
// sender that was refused may try again.
func (in *inbox) link(p *inPipe, drained func()) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shut(p) {
		return false
	}
	p.drained = drained
	return true
}

// shut reports whether senders may not queue messages here. Caller holds the lock.
func (in *inbox) shut(p *inPipe) bool {
	return in.aborted || p.closed || in.budget.limit.Load() > 0
}

// fitsBoth is fits for a queue that has the room of its sender, too. Caller holds the lock.
func (in *inbox) fitsBoth(p *inPipe, msgs int, bytes int64, sender load) bool {
	msgs += p.msgs - p.notes.msgs
	bytes += p.bytes - p.notes.bytes
	if in.hwm > 0 && sender.msgs > 0 && msgs >= in.hwm+sender.msgs {
		return false
	}
	return in.maxBytes <= 0 || sender.bytes <= 0 || msgs == 0 || bytes < in.maxBytes+sender.bytes
}

// refuse notes that a sender waits for room. Caller holds the lock.
func (in *inbox) refuse(p *inPipe, sender load) {
	p.refused = true
	p.low = load{}
	if in.hwm > 0 && sender.msgs > 0 {
		p.low.msgs = max(1, (in.hwm+sender.msgs)/2)
	}
	if in.maxBytes > 0 && sender.bytes > 0 {
		p.low.bytes = (in.maxBytes + sender.bytes) / 2
	}
}

// accept queues a message of a sender that is linked, without copying it, if there is room. open is
// false if the sender may not queue messages here any more.
func (in *inbox) accept(p *Peer, wire []byte, s span, sender load) (ok, open bool) {
	pipe := &p.inPipe
	in.mu.Lock()
	if in.shut(pipe) {
		in.mu.Unlock()
		return false, false
	}
	if !in.fitsBoth(pipe, 0, 0, sender) {
		in.refuse(pipe, sender)
		in.mu.Unlock()
		return false, true
	}
	empty := in.queue.empty()
	in.queue.pass(p, wire, s)
	in.mu.Unlock()
	in.accepted(p, empty, Traffic{1, uint64(s.parts), uint64(s.bytes)})
	return true, true
}

// acceptRun is accept for messages of b, and returns how many it has queued.
func (in *inbox) acceptRun(p *Peer, b *Batch, r Run, sender load) (took int, open bool) {
	pipe := &p.inPipe
	in.mu.Lock()
	if in.shut(pipe) {
		in.mu.Unlock()
		return 0, false
	}
	to, bytes := r.From, int64(0)
	for to < r.To && in.fitsBoth(pipe, to-r.From, bytes, sender) {
		bytes += b.wireBytes(to, to+1)
		to++
	}
	if to < r.To {
		in.refuse(pipe, sender)
	}
	empty := in.queue.empty()
	if to > r.From {
		if bytes <= slabSize/4 && bytes < int64(len(b.slab.buf)/4) { // Keep would copy them
			in.queue.gather(p, b, Run{r.From, to}, bytes)
		} else {
			k := b.Keep([]Run{{r.From, to}})
			k.peer = p
			in.queue.push(pipe, k, bytes)
		}
	}
	in.mu.Unlock()
	if to > r.From {
		parts, size := b.Counts(r.From, to)
		in.accepted(p, empty, Traffic{uint64(to - r.From), uint64(parts), uint64(size)})
	}
	return to - r.From, true
}

// accepted counts messages that were queued for p, and wakes a receiver if the inbox was empty:
// otherwise one knows already.
func (in *inbox) accepted(p *Peer, empty bool, t Traffic) {
	p.in.add(int(t.Messages), int(t.Parts), int(t.Bytes))
	p.speak()
	if empty {
		in.signal()
	}
}

// hasRoomFor reports whether a sender that is linked would be able to queue a message, or to learn
// that it may not any more. If not, drained is called when that has changed.
func (in *inbox) hasRoomFor(p *inPipe, sender load) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shut(p) || in.fitsBoth(p, 0, 0, sender) {
		return true
	}
	in.refuse(p, sender)
	return false
}

// closePipe ends the queueing by the sender of p. What is queued can be received.
func (in *inbox) closePipe(p *inPipe) {
	in.mu.Lock()
	p.closed = true
	wake := p.wakes()
	in.mu.Unlock()
	wake()
}

// wakes returns what the caller calls without the lock, so that a sender that was refused tries
// again.
func (p *inPipe) wakes() func() {
	if !p.refused {
		return func() {}
	}
	p.refused = false
	return p.drained
}
