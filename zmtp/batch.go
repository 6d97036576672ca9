package zmtp

import (
	"iter"

	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
)

// span is where a message lies in its batch.
type span struct {
	start, end int
	parts      int
	bytes      int // sum of the bodies
}

// Batch is messages in order: those of one read of one peer, of which there is at least one, or
// those of a [BatchBuilder]. It owns their memory until Release.
type Batch struct {
	peer  *Peer
	slab  *slab
	spans []span
	inbox *inbox // that counts the batch in its budget, else nil
	note  bool   // the batch is a notification of an XPUB, not sent by a peer
	// loose has the messages, in place of slab, that came one by one over inproc and wait in an
	// inPipe. Each is below handOverSize.
	loose [][]byte
	// gathers says that small batches that come over inproc are added, while it is in an inPipe.
	gathers bool
}

// batchOf makes a batch of one message.
func batchOf(m Message) *Batch {
	parts, bytes := m.counts()
	b := &Batch{peer: m.peer, slab: &slab{buf: m.wire, immutable: true},
		spans: []span{{0, len(m.wire), parts, bytes}}}
	b.slab.refs.Store(1)
	return b
}

// countedBatchOf is batchOf for a message that counts against shared until the last release.
func countedBatchOf(m Message, shared *memory.Holder) *Batch {
	b := batchOf(m)
	shared.Add(int64(len(m.wire)))
	b.slab.holder.Store(shared)
	b.slab.shared = shared
	return b
}

// gather returns the messages of a loose batch as one that the application may have.
func (b *Batch) gather() *Batch {
	if len(b.loose) == 1 {
		return batchOf(Message{wire: b.loose[0], peer: b.peer})
	}
	k := &Batch{peer: b.peer, slab: newSlab(slabFor(int(b.wireBytes(0, b.Len())))), spans: b.spans}
	at := 0
	for i, wire := range b.loose {
		end := at + copy(k.slab.buf[at:], wire)
		k.spans[i].start, k.spans[i].end = at, end
		at = end
	}
	return k
}

// Run is a range of messages of a batch, From up to but not including To.
type Run struct{ From, To int }

// Len returns the number of messages.
func (b *Batch) Len() int { return len(b.spans) }

// Peer returns the peer from which the batch came, nil for one of a BatchBuilder.
func (b *Batch) Peer() *Peer { return b.peer }

// Message returns message i. It refers to the batch and is invalid after Release.
func (b *Batch) Message(i int) Message {
	s := &b.spans[i]
	return Message{wire: b.slab.buf[s.start:s.end:s.end], peer: b.peer}
}

// Messages returns an iterator over the messages, which are invalid after Release.
func (b *Batch) Messages() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for i := range b.spans {
			if !yield(b.Message(i)) {
				return
			}
		}
	}
}

// Topic returns the first part of message i, with which subscriptions are compared. It refers to
// the batch.
func (b *Batch) Topic(i int) []byte {
	m := b.slab.buf[b.spans[i].start:b.spans[i].end]
	if wire.Flags(m[0])&wire.Long == 0 { // nearly always
		end := 2 + int(m[1])
		return m[2:end:end]
	}
	part, _ := cutPart(m)
	return part
}

// CutPart takes the first part off message i, such as a routing id (RFC 28), and returns it. It
// refers to the batch. It does nothing and reports false if that is the only part.
func (b *Batch) CutPart(i int) (part []byte, ok bool) {
	s := &b.spans[i]
	if s.parts < 2 {
		return nil, false
	}
	part, rest := cutPart(b.slab.buf[s.start:s.end])
	s.start = s.end - len(rest)
	s.parts--
	s.bytes -= len(part)
	return part, true
}

// Counts returns the number of parts of the messages from up to but not including to, and the sum
// of their sizes in bytes without the frame headers.
func (b *Batch) Counts(from, to int) (parts, bytes int) {
	for _, s := range b.spans[from:to] {
		parts += s.parts
		bytes += s.bytes
	}
	return parts, bytes
}

// Release gives the memory of the batch back. Neither the batch nor its messages may be used after
// that. With Config.Memory or Config.TotalRecvBytes the memory counts until then; without them
// Release is optional and saves work.
func (b *Batch) Release() {
	if b.slab == nil {
		return
	}
	if b.inbox != nil {
		b.inbox.released(b.slab)
	}
	b.slab.release()
	b.slab = nil
}

// wireBytes returns the sum of the wire sizes of the messages from up to but not including to.
func (b *Batch) wireBytes(from, to int) int64 {
	n := int64(0)
	for _, s := range b.spans[from:to] {
		n += int64(s.end - s.start)
	}
	return n
}

// keeps returns how many bytes the messages have, and whether a batch that outlives this one shares
// its slab. It does not if that would pin much more memory than the messages need, unless another
// batch has pinned it already.
func (b *Batch) keeps() (used int, shared bool) {
	used = int(b.wireBytes(0, len(b.spans)))
	return used, used >= len(b.slab.buf)/4 || b.slab.refs.Load() > 1
}

// keep returns a batch with the same messages, of so many bytes, that stays valid when the read
// loop goes on. It shares the slab or has one of its own.
func (b *Batch) keep(used int, shared bool) *Batch {
	k := &Batch{peer: b.peer, spans: make([]span, len(b.spans))}
	if shared {
		copy(k.spans, b.spans)
		b.slab.retain()
		k.slab = b.slab
		return k
	}
	k.slab = b.slab.copyFor(used)
	at := 0
	for i, s := range b.spans {
		n := copy(k.slab.buf[at:], b.slab.buf[s.start:s.end])
		k.spans[i] = span{at, at + n, s.parts, s.bytes}
		at += n
	}
	return k
}

// within returns a batch with the messages of b behind envelope, the wire form of other parts, and
// releases b.
func (b *Batch) within(envelope []byte) *Batch {
	defer b.Release()
	parts, bytes := Message{wire: envelope}.counts()
	size := int(b.wireBytes(0, len(b.spans))) + len(envelope)*len(b.spans)
	k := &Batch{peer: b.peer, slab: b.slab.copyFor(size), spans: make([]span, len(b.spans))}
	at := 0
	for i, s := range b.spans {
		end := at + copy(k.slab.buf[at:], envelope)
		end += copy(k.slab.buf[end:], b.slab.buf[s.start:s.end])
		k.spans[i] = span{at, end, s.parts + parts, s.bytes + bytes}
		at = end
	}
	return k
}

// slice returns the messages from up to but not including to as a batch of their own, which shares
// the memory of b.
func (b *Batch) slice(from, to int) *Batch {
	b.slab.retain()
	return &Batch{peer: b.peer, slab: b.slab, spans: b.spans[from:to:to], inbox: b.inbox}
}
