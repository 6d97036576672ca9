package curve

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/host"
	"zmtpd/zmtp/wire"
)

// DefaultHandshakeRate is the rate of a Server's own [Limiter], in handshakes a second: about an
// eighth of one processor.
const DefaultHandshakeRate = 1000

const (
	// handshakeCost is what a handshake costs a server with one key, in multiplications on the
	// curve: HELLO takes two of them, INITIATE the others. HELLO takes one more for each further
	// key.
	handshakeCost = 4
	// addressShare is the part of the rate that one address may take.
	addressShare = 4
	// knownTurns is how many of a known address's handshakes go first before a stranger's.
	knownTurns = 3
	// maxWaiting bounds the HELLOs that wait, of known addresses and of strangers each.
	maxWaiting = 1024
	// maxAddresses bounds the addresses whose rate is counted, and the known ones.
	maxAddresses = 8192
)

// A Limiter bounds what clients can make CURVE servers compute. A handshake costs the server four
// multiplications on the curve, some 120 µs, before it knows who asks. The servers that share a
// Limiter begin at most so many handshakes a second, after a burst of one second's worth:
//
//   - One address gets a quarter of the rate, after a burst of one second's worth of all of it. A
//     HELLO beyond that is refused before anything is computed. An IPv6 address counts as its /64.
//   - What exceeds the rate of all addresses waits. Addresses take turns, however many HELLOs of
//     each wait. Those from which a client was let in before have three turns of four.
//   - When too many wait, the last one of the address with the most is refused. Memory is bounded
//     at about 2 MiB.
//
// So a client at a known address gets in within milliseconds while others flood the server, and a
// client at a new address when the addresses before it have had their turn. Clients that share an
// address with the flood share its rate: nothing tells them apart before the server has computed.
//
// A Limiter may be used by any number of goroutines.
type Limiter struct {
	perSecond int

	started, computed atomic.Uint64

	mu       sync.Mutex
	all      bucket
	address  *recent[*bucket]  // by address
	known    *recent[struct{}] // addresses of clients that were let in
	waiting  [2]queue          // of strangers, of known addresses
	turn     int               // how many known ones went first since the last stranger
	timer    *time.Timer
	ticking  bool
	counters LimiterStats
}

// LimiterStats are the counters of a Limiter.
type LimiterStats struct {
	Started         uint64 // handshakes
	Waited          uint64 // of these, those that had to wait
	RefusedRate     uint64 // handshakes of an address above its share of the rate
	RefusedFull     uint64 // handshakes above the bound on those that wait
	Multiplications uint64 // on the curve, each about 30 µs
	Waiting         int    // now
}

// NewLimiter returns a Limiter of perSecond handshakes a second. 0 or less is no limit.
func NewLimiter(perSecond int) *Limiter {
	l := &Limiter{
		perSecond: perSecond,
		address:   newRecent[*bucket](maxAddresses),
		known:     newRecent[struct{}](maxAddresses),
	}
	l.all = l.newBucket(1)
	return l
}

// Stats returns a snapshot of the counters.
func (l *Limiter) Stats() LimiterStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.counters
	st.Started, st.Multiplications = l.started.Load(), l.computed.Load()
	for i := range l.waiting {
		st.Waiting += l.waiting[i].size
	}
	return st
}

// unlimited reports whether nobody has to wait.
func (l *Limiter) unlimited() bool { return l.perSecond <= 0 }

// wait returns when a handshake with the client at addr may begin that costs that many
// multiplications, or why it may not. It waits for ctx at most.
func (l *Limiter) wait(ctx context.Context, addr net.Addr, cost int) error {
	w, err := l.enter(host.Of(addr), cost)
	if w == nil {
		return err
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.waiting {
		l.waiting[i].remove(w)
	}
	select {
	case err := <-w.answer: // in between
		return err
	default:
		return wire.Errorf(wire.HandshakeTimeout, "HELLO waited for its turn: %v",
			context.Cause(ctx))
	}
}

// enter takes a HELLO. It returns nil and nil if the handshake may begin at once.
func (l *Limiter) enter(key netip.Addr, cost int) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b, ok := l.address.get(key)
	if !ok {
		fresh := l.newBucket(addressShare)
		b = &fresh
		l.address.put(key, b)
	}
	if !b.take(now, cost) {
		l.counters.RefusedRate++
		return nil, wire.Errorf(wire.HandshakeLimited,
			"HELLO refused: handshakes from %s exceed %d a second,"+
				" its share of the rate", key, max(l.perSecond/addressShare, 1))
	}
	if l.waiting[0].size+l.waiting[1].size == 0 && l.all.take(now, cost) {
		l.started.Add(1)
		return nil, nil
	}
	class := 0
	if _, ok := l.known.get(key); ok {
		class = 1
	}
	w := &waiter{key: key, cost: cost, answer: make(chan error, 1)}
	if !l.waiting[class].push(w) {
		l.counters.RefusedFull++
		return nil, errFull()
	}
	if out := l.waiting[class].overflow(); out != nil {
		l.counters.RefusedFull++
		out.answer <- errFull()
	}
	l.dispatch(now)
	return w, nil
}

func errFull() error {
	return wire.Errorf(wire.HandshakeLimited, "HELLO refused: %d others wait for their handshake",
		maxWaiting)
}

// admitted remembers the address of a client that was let in.
func (l *Limiter) admitted(addr net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.put(host.Of(addr), struct{}{})
}

// dispatch begins the handshakes whose turn it is. Caller holds mu.
func (l *Limiter) dispatch(now time.Time) {
	for {
		q := l.next()
		if q == nil {
			return
		}
		w := q.front()
		if !l.all.take(now, w.cost) {
			l.later(l.all.until(w.cost))
			return
		}
		q.pop()
		if q == &l.waiting[1] {
			l.turn++
		} else {
			l.turn = 0
		}
		l.started.Add(1)
		l.counters.Waited++
		w.answer <- nil
	}
}

// next returns the queue of which one may begin, nil if nobody waits. Caller holds mu.
func (l *Limiter) next() *queue {
	strangers, known := &l.waiting[0], &l.waiting[1]
	switch {
	case known.size > 0 && (strangers.size == 0 || l.turn < knownTurns):
		return known
	case strangers.size > 0:
		return strangers
	}
	return nil
}

// later calls dispatch after d. Caller holds mu.
func (l *Limiter) later(d time.Duration) {
	if l.ticking {
		return
	}
	l.ticking = true
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.tick)
	} else {
		l.timer.Reset(d)
	}
}

func (l *Limiter) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ticking = false
	l.dispatch(time.Now())
}

// bucket is a token bucket; a token is a multiplication.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

// newBucket returns a full bucket that gets a part of the rate.
func (l *Limiter) newBucket(part float64) bucket {
	all := float64(l.perSecond) * handshakeCost
	burst := max(all, MaxServerKeys+handshakeCost) // the dearest handshake fits
	return bucket{rate: all / part, burst: burst, tokens: burst, at: time.Now()}
}

func (b *bucket) take(now time.Time, n int) bool {
	b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

// until returns how long after the last take there will be n tokens.
func (b *bucket) until(n int) time.Duration {
	return time.Duration((float64(n)-b.tokens)/b.rate*float64(time.Second)) + 1
}

// waiter is a HELLO that waits.
type waiter struct {
	key    netip.Addr
	cost   int
	answer chan error // of one
}

// queue is the HELLOs that wait. The addresses take turns, each with its oldest one.
type queue struct {
	lines map[netip.Addr]*line
	turns []*line // the next one first
	size  int
}

// line is the HELLOs of one address, the oldest first; it is never empty.
type line []*waiter

// push appends w, unless the queue is full and no address has more than that of w would.
func (q *queue) push(w *waiter) bool {
	own := q.lines[w.key]
	if q.size >= maxWaiting && len(*q.longest()) <= own.len()+1 {
		return false
	}
	if own == nil {
		own = new(line)
		if q.lines == nil {
			q.lines = make(map[netip.Addr]*line)
		}
		q.lines[w.key] = own
		q.turns = append(q.turns, own)
	}
	*own = append(*own, w)
	q.size++
	return true
}

func (l *line) len() int {
	if l == nil {
		return 0
	}
	return len(*l)
}

func (q *queue) longest() *line {
	long := q.turns[0]
	for _, l := range q.turns {
		if len(*l) > len(*long) {
			long = l
		}
	}
	return long
}

// overflow takes the last one of the longest line out if there are too many.
func (q *queue) overflow() *waiter {
	if q.size <= maxWaiting {
		return nil
	}
	long := *q.longest()
	w := long[len(long)-1]
	q.remove(w)
	return w
}

// front returns the one whose turn it is.
func (q *queue) front() *waiter { return (*q.turns[0])[0] }

// pop takes it out.
func (q *queue) pop() {
	l := q.turns[0]
	q.turns[0] = nil
	q.turns = q.turns[1:]
	w := (*l)[0]
	(*l)[0] = nil
	*l = (*l)[1:]
	q.size--
	if len(*l) > 0 {
		q.turns = append(q.turns, l)
	} else {
		delete(q.lines, w.key)
	}
}

// remove takes w out if it waits.
func (q *queue) remove(w *waiter) {
	l := q.lines[w.key]
	if l == nil {
		return
	}
	i := slices.Index(*l, w)
	if i < 0 {
		return
	}
	*l = slices.Delete(*l, i, i+1)
	q.size--
	if len(*l) == 0 {
		delete(q.lines, w.key)
		at := slices.Index(q.turns, l)
		q.turns = slices.Delete(q.turns, at, at+1)
	}
}

// recent is a map of the addresses that were put last.
type recent[V any] struct {
	limit int
	of    map[netip.Addr]*list.Element
	order list.List // of recentEntry, the oldest first
}

type recentEntry[V any] struct {
	key   netip.Addr
	value V
}

func newRecent[V any](limit int) *recent[V] {
	return &recent[V]{limit: limit, of: make(map[netip.Addr]*list.Element)}
}

// get returns the value of an address, and makes it the youngest.
func (r *recent[V]) get(key netip.Addr) (v V, ok bool) {
	e := r.of[key]
	if e == nil {
		return v, false
	}
	r.order.MoveToBack(e)
	return e.Value.(recentEntry[V]).value, true
}

func (r *recent[V]) put(key netip.Addr, v V) {
	if e := r.of[key]; e != nil {
		e.Value = recentEntry[V]{key, v}
		r.order.MoveToBack(e)
		return
	}
	if len(r.of) >= r.limit {
		oldest := r.order.Remove(r.order.Front()).(recentEntry[V])
		delete(r.of, oldest.key)
	}
	r.of[key] = r.order.PushBack(recentEntry[V]{key, v})
}
