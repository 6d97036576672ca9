package zmtp

import "zmtpd/zmtp/wire"

// A BatchBuilder collects messages into a [Batch] for the SendBatch of a socket. The zero value is
// empty and ready for use. It is not for concurrent use.
//
// A builder copies all that is added to it. Its memory goes to the Batch, and comes back for other
// batches with [Batch.Release]: release a batch as soon as SendBatch has returned. What was not
// copied into a queue by then stays in place until it is sent.
type BatchBuilder struct {
	slab  *slab // nil while empty
	used  int   // bytes of it
	spans []span
}

// Add appends a message of the given parts. Without parts it does nothing.
func (b *BatchBuilder) Add(parts ...[]byte) {
	if len(parts) == 0 {
		return
	}
	size, bytes := 0, 0
	for _, p := range parts {
		size += wire.FrameSize(len(p))
		bytes += len(p)
	}
	dst := b.room(size)
	AppendMessage(dst, parts...)
	b.added(size, len(parts), bytes)
}

// AddMessage appends m, with the parts of an envelope before its own if there is one (RFC 28). The
// zero Message is not added.
func (b *BatchBuilder) AddMessage(m Message, envelope ...[]byte) {
	if len(m.wire) == 0 {
		return
	}
	parts, bytes := m.counts()
	size := len(m.wire)
	for _, p := range envelope {
		size += wire.FrameSize(len(p))
		bytes += len(p)
	}
	appendEnvelope(b.room(size), envelope, m)
	b.added(size, len(envelope)+parts, bytes)
}

// Len returns the number of messages.
func (b *BatchBuilder) Len() int { return len(b.spans) }

// Size returns the size of the messages on the wire in bytes, with their framing.
func (b *BatchBuilder) Size() int { return b.used }

// Batch returns the messages, in the order in which they were added, and leaves the builder empty.
// The caller owns the batch and should Release it. It may be a batch of no messages.
func (b *BatchBuilder) Batch() *Batch {
	all := &Batch{slab: b.slab, spans: b.spans}
	*b = BatchBuilder{spans: make([]span, 0, len(b.spans))}
	return all
}

// room returns an empty slice with room for n bytes, behind what is there.
func (b *BatchBuilder) room(n int) []byte {
	switch {
	case b.slab == nil:
		b.slab = newSlab(max(slabSize, slabFor(n)))
	case len(b.slab.buf)-b.used < n:
		larger := newSlab(slabFor(max(2*len(b.slab.buf), b.used+n)))
		copy(larger.buf, b.slab.buf[:b.used])
		b.slab.release()
		b.slab = larger
	}
	return b.slab.buf[b.used:b.used:len(b.slab.buf)]
}

func (b *BatchBuilder) added(size, parts, bytes int) {
	b.spans = append(b.spans, span{b.used, b.used + size, parts, bytes})
	b.used += size
}
