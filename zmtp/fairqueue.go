package zmtp

import (
	"slices"
	"sync"
)

// inPipe holds the batches that one peer has sent and the application has not received. It outlives
// its peer until it is empty.
type inPipe struct {
	room gate // opened when a reader that found the pipe full should try again
	// envelope is the wire form of the parts that the application gets before those of each
	// message, such as a routing id (RFC 28). It is set before the first message, and not counted.
	envelope []byte
	// The rest is guarded by inbox.mu.
	queue fifo[*Batch] // windows into the batches of the reads
	next  int          // first message of the first batch that was not received
	load
	notes load // of these, notifications
	// See budget.
	pinned int64
	claim  claim
	// Of a sender that queues its messages here itself, see direct.go.
	drained func() // tells it that there is room
	refused bool   // it waits for that
	low     load   // of which there is room for it again; 0 for any
	closed  bool   // it may not queue anything more
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

// fairQueue takes from its pipes in turn, message by message or batch by batch, past those that are
// empty (libzmq, fq.cpp). It has no lock of its own.
type fairQueue struct {
	pipes fifo[*inPipe] // those that are not empty, in the order of their turn
	load                // of all pipes
	notes load          // of these, notifications
}

func (q *fairQueue) empty() bool { return q.pipes.len() == 0 }

// push queues b, which has bytes wire bytes, on p.
func (q *fairQueue) push(p *inPipe, b *Batch, bytes int64) {
	if p.queue.len() == 0 {
		q.pipes.push(p)
	}
	p.queue.push(b)
	q.count(p, b, b.Len(), bytes)
}

// looseMessages is how many messages that come one by one are in a batch.
const looseMessages = 64

// loosePool has empty batches for messages that come one by one.
var loosePool = sync.Pool{New: func() any {
	return &Batch{loose: make([][]byte, 0, looseMessages), spans: make([]span, 0, looseMessages)}
}}

// pass queues a message of p's that came alone, whose memory nobody changes.
func (q *fairQueue) pass(p *Peer, wire []byte, s span) {
	pipe := &p.inPipe
	if len(wire) >= handOverSize {
		b := batchOf(Message{wire: wire, peer: p})
		q.push(pipe, b, int64(len(wire)))
		return
	}
	var b *Batch
	if all := pipe.queue.all(); len(all) > 0 {
		b = all[len(all)-1]
	} else {
		q.pipes.push(pipe)
	}
	if b == nil || b.loose == nil || len(b.loose) == cap(b.loose) {
		b = loosePool.Get().(*Batch)
		b.peer = p
		pipe.queue.push(b)
	}
	b.loose = append(b.loose, wire)
	b.spans = append(b.spans, s)
	q.count(pipe, b, 1, int64(len(wire)))
}

// gatheredMessages is how many messages of several small batches gather in one.
const gatheredMessages = 512

// gather queues messages of b, which have bytes wire bytes, in a batch with those that came before
// them. They are copied.
func (q *fairQueue) gather(p *Peer, b *Batch, r Run, bytes int64) {
	pipe := &p.inPipe
	var to *Batch
	at := 0
	if all := pipe.queue.all(); len(all) > 0 && all[len(all)-1].gathers {
		to = all[len(all)-1]
		at = to.spans[len(to.spans)-1].end
	}
	if to == nil || len(to.spans)+r.To-r.From > cap(to.spans) || at+int(bytes) > slabSize {
		to = &Batch{peer: p, slab: newSlab(slabSize), gathers: true,
			spans: make([]span, 0, max(gatheredMessages, r.To-r.From))}
		at = 0
		q.push(pipe, to, 0)
	}
	for _, s := range b.spans[r.From:r.To] {
		end := at + copy(to.slab.buf[at:], b.slab.buf[s.start:s.end])
		to.spans = append(to.spans, span{at, end, s.parts, s.bytes})
		at = end
	}
	q.count(pipe, to, r.To-r.From, bytes)
}

// replace queues b in place of all that is queued on p, and returns that and how many messages it
// has.
func (q *fairQueue) replace(p *inPipe, b *Batch) (old []*Batch, msgs int) {
	old, msgs = slices.Clone(p.queue.all()), p.msgs
	q.add(-p.msgs, -p.bytes)
	q.notes.add(-p.notes.msgs, -p.notes.bytes)
	p.queue, p.next, p.load, p.notes = fifo[*Batch]{}, 0, load{}, load{}
	if len(old) == 0 {
		q.pipes.push(p)
	}
	p.queue.push(b)
	q.count(p, b, b.Len(), b.wireBytes(0, b.Len()))
	return old, msgs
}

// takeMessage takes the next message from p. owned is false if its memory belongs to a batch. With
// the last message of a batch the caller gets the batch, and releases it. The queue must not be
// empty.
func (q *fairQueue) takeMessage() (p *inPipe, m Message, owned bool, last *Batch) {
	p = q.pipes.all()[0]
	b, i := p.queue.all()[0], p.next
	if b.loose != nil {
		m, owned = Message{wire: b.loose[i], peer: b.peer}, true
		b.loose[i] = nil
	} else {
		m, owned = b.Message(i), b.slab.immutable
	}
	q.count(p, b, -1, -b.wireBytes(i, i+1))
	if p.next++; p.next == b.Len() {
		p.pop()
		if b.loose != nil {
			*b = Batch{loose: b.loose[:0], spans: b.spans[:0]}
			loosePool.Put(b)
		} else {
			last = b
		}
	}
	q.rotate(p)
	return p, m, owned, last
}

// takeBatch takes what is left of the next batch from p. The queue must not be empty.
func (q *fairQueue) takeBatch() (p *inPipe, b *Batch) {
	p = q.pipes.all()[0]
	b = p.queue.all()[0]
	b.spans = b.spans[p.next:]
	if b.loose != nil {
		b.loose = b.loose[p.next:]
	}
	p.pop()
	q.count(p, b, -b.Len(), -b.wireBytes(0, b.Len()))
	q.rotate(p)
	return p, b
}

// count adds messages of b, a batch of p, to what is queued.
func (q *fairQueue) count(p *inPipe, b *Batch, msgs int, bytes int64) {
	p.add(msgs, bytes)
	q.add(msgs, bytes)
	if b.note {
		p.notes.add(msgs, bytes)
		q.notes.add(msgs, bytes)
	}
}

// rotate ends the turn of p, the first pipe.
func (q *fairQueue) rotate(p *inPipe) {
	q.pipes.pop(1)
	if p.queue.len() > 0 {
		q.pipes.push(p)
	}
}

// clear empties all pipes and returns their batches.
func (q *fairQueue) clear() (all []*Batch) {
	for _, p := range q.pipes.all() {
		all = append(all, p.queue.all()...)
		p.queue, p.load, p.notes = fifo[*Batch]{}, load{}, load{}
	}
	*q = fairQueue{}
	return all
}

func (p *inPipe) pop() {
	p.queue.pop(1)
	p.next = 0
}
