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
	waiting []*lane // in the order in which they came
}

// claim is what the read loop of a peer waits for.
type claim struct {
	bytes   int64
	granted chan struct{} // closed when bytes are charged; nil while nothing is waited for
}

// allows reports whether l may have n bytes more.
func (g *budget) allows(l *lane, n int64) bool {
	limit := g.limit.Load()
	if limit <= 0 || l.msgs == 0 {
		return true
	}
	free := limit - g.used - n
	return free >= 0 && l.pinned+n <= free
}

// charge counts n bytes for l.
func (g *budget) charge(l *lane, n int64) {
	g.used += n
	l.pinned += n
}

// ask charges n bytes for l if they are allowed. Otherwise it returns a channel that is closed when
// they are, and charged.
func (g *budget) ask(l *lane, n int64) (granted <-chan struct{}) {
	if g.allows(l, n) {
		g.charge(l, n)
		return nil
	}
	l.claim = claim{n, make(chan struct{})}
	g.waiting = append(g.waiting, l)
	return l.claim.granted
}

// grant gives those who wait what they may have by now, the first first.
func (g *budget) grant() {
	kept := g.waiting[:0]
	for _, l := range g.waiting {
		if !g.allows(l, l.claim.bytes) {
			kept = append(kept, l)
			continue
		}
		g.charge(l, l.claim.bytes)
		close(l.claim.granted)
		l.claim = claim{}
	}
	clear(g.waiting[len(kept):])
	g.waiting = kept
}
