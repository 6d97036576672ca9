package zmtp

import "sync/atomic"

// budget bounds the memory of the messages that a socket has received from all peers and that were
// not released. It counts whole slabs: from the time when the first batch in a slab is queued until
// the last one is released, and a slab above largeSlab already while it is read into. inbox.mu
// guards it.
//
// A peer may have as much of the budget as it leaves free, so that one peer cannot take all (a
// dynamic threshold, as in switches whose ports share buffers). Of n peers that send without end
// each gets one part in n+1, and one part stays free for peers that begin. A peer without queued
// messages may always go on, so that no peer is starved; this can exceed the limit by one read for
// each peer.
type budget struct {
	limit   atomic.Int64 // bytes, 0 for no limit; set under inbox.mu
	used    int64
	waiting []*inPipe // first come, first served
}

// claim is the memory for which the read loop of a peer waits.
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

// ask charges n bytes for p if they are allowed. Otherwise it returns a channel that is closed once
// they have been charged.
func (g *budget) ask(p *inPipe, n int64) (granted <-chan struct{}) {
	if g.allows(p, n) {
		g.charge(p, n)
		return nil
	}
	p.claim = claim{n, make(chan struct{})}
	g.waiting = append(g.waiting, p)
	return p.claim.granted
}

// grant charges the claims that are allowed by now, in the order in which they came.
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
