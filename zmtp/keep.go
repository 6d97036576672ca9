package zmtp

// Keep returns a batch of the messages in runs, in that order, that stays valid after
// Pattern.Receive has returned. It shares the memory of b, unless that would pin more than four
// times the size of the messages; then it copies them. There must be at least one message. The
// caller releases the batch.
func (b *Batch) Keep(runs []Run) *Batch {
	n, size := 0, int64(0)
	for _, r := range runs {
		n += r.To - r.From
		size += b.wireBytes(r.From, r.To)
	}
	k := &Batch{peer: b.peer, spans: make([]span, 0, n)}
	if size >= int64(len(b.slab.buf)/4) {
		b.slab.retain()
		k.slab = b.slab
		for _, r := range runs {
			k.spans = append(k.spans, b.spans[r.From:r.To]...)
		}
		return k
	}
	k.slab = b.slab.copyFor(int(size))
	at := 0
	for _, r := range runs {
		for _, s := range b.spans[r.From:r.To] {
			end := at + copy(k.slab.buf[at:], b.slab.buf[s.start:s.end])
			k.spans = append(k.spans, span{at, end, s.parts, s.bytes})
			at = end
		}
	}
	return k
}
