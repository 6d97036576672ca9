package zmtp

import "sync/atomic"

// budget bounds the memory in which the messages of all peers of a socket lie that were received
// and not yet given back. It counts whole slabs, from the first batch in one that is queued to the
// last that is released; those above largeSlab already when they are there to be read into.
// inbox.mu guards it.
//
// So that one peer does not take all of it, a peer may have as much as is left free beside it (a
// dynamic threshold, as switches have for the buffers that their ports share): of n peers that send
// without end each gets one part in n+1, and what is always left free lets others begin. A peer of
// whom nothing is queued may always go on, so nothing stands still; by that much, one read for each
// peer, the limit may be exceeded.
type budget struct {
	limit   atomic.Int64 // bytes, 0 for no limit; set under inbox.mu
	used    int64
	waiting []*inPipe // in the order in which they came
}

// claim is what the read loop of a peer waits for.
type claim struct {
	bytes   int64
	granted chan struct{} // closed when bytes are charged; nil while nothing is waited for
}

// allows reports whether p may have n bytes more.
func (g *budget) allows(p *inPipe, n int64) bool {
	limit := g.limit.Load()
	if limit <= 0 || p.msgs == 0 {
		return true
	}
	free := limit - g.used - n
	return free >= 0 && p.pinned+n <= free
}

// charge counts n bytes for p.
func (g *budget) charge(p *inPipe, n int64) {
	g.used += n
	p.pinned += n
}

// ask charges n bytes for p if they are allowed. Otherwise it returns a channel that is closed when
// they are, and charged.
func (g *budget) ask(p *inPipe, n int64) (granted <-chan struct{}) {
	if g.allows(p, n) {
		g.charge(p, n)
		return nil
	}
	p.claim = claim{n, make(chan struct{})}
	g.waiting = append(g.waiting, p)
	return p.claim.granted
}

// grant gives those who wait what they may have by now, the first first.
func (g *budget) grant() {
	kept := g.waiting[:0]
	for _, p := range g.waiting {
		if !g.allows(p, p.claim.bytes) {
			kept = append(kept, p)
			continue
		}
		g.charge(p, p.claim.bytes)
		close(p.claim.granted)
		p.claim = claim{}
	}
	clear(g.waiting[len(kept):])
	g.waiting = kept
}
