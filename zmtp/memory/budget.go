package memory

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is the time that a reservation waits, or that the limit is exceeded, before a holder
	// is closed. A sink that hesitates, or a large message on a slow link, takes seconds.
	patience = 5 * time.Second
	// between is the interval at which a shortage is checked.
	between = 50 * time.Millisecond
	// grace is the time in which a closed holder has to release its memory before the next one is
	// closed.
	grace = time.Second
	// minVictim is the smallest amount, in bytes, for which a holder is closed as long as others hold
	// more. To close smaller ones helps little and hits many.
	minVictim = 256 << 10
	// A holder is active if it moves 1/activePart of its memory within patience. A peer that sends
	// a message so slowly that it is just active has soon completed it.
	activePart = 16
	// quiet is the time for which memory must suffice before a new shortage is logged.
	quiet = time.Minute
)

// Budget bounds the memory of all its holders together. It is safe for concurrent use. A nil Budget
// has no limit, and its holders count nothing.
type Budget struct {
	log   *slog.Logger
	limit atomic.Int64
	used  atomic.Int64
	peak  atomic.Int64

	waits, refused, evicted atomic.Uint64

	// pressed is set while a timer watches a shortage. Otherwise releases need no lock.
	pressed atomic.Bool

	mu      sync.Mutex
	holders map[*Holder]struct{} // guarded by mu
	waiting []*waiter            // guarded by mu; oldest first
	// guarded by mu; start of the time over the limit, zero if there is none
	over   time.Time
	looked time.Time // guarded by mu; last call of Holder.look
	last   *Holder   // guarded by mu; the holder that was closed last
	closed time.Time // guarded by mu; when last was closed
	ended  time.Time // guarded by mu; end of the last shortage
	short  bool      // guarded by mu; the begin of a shortage was logged, its end was not
}

// waiter is a reservation that has to wait.
type waiter struct {
	holder  *Holder
	n       int64
	whole   int64 // all that the work under way needs, n at least
	since   time.Time
	granted chan struct{} // closed once n is reserved
}

// New returns a budget of limit bytes. log takes messages about shortages and may be nil.
func New(limit int64, log *slog.Logger) *Budget {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Budget{log: log, holders: make(map[*Holder]struct{})}
	b.limit.Store(max(limit, 1))
	return b
}

// SetLimit changes the limit. It does not take back earlier reservations.
func (b *Budget) SetLimit(limit int64) {
	if b == nil {
		return
	}
	b.limit.Store(max(limit, 1))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grant()
	b.press()
}

// Limit returns the limit in bytes, 0 for a nil Budget.
func (b *Budget) Limit() int64 {
	if b == nil {
		return 0
	}
	return b.limit.Load()
}

// Stats describes a Budget at one moment.
type Stats struct {
	Limit int64 // bytes
	Used  int64 // bytes reserved, with the floors of all holders
	Peak  int64 // largest value of Used
	// ByKind has the bytes of each kind of holder. A holder counts with its floor at least.
	ByKind map[string]int64
	// Holders is the number of holders, Waiting the number of reservations that wait.
	Holders, Waiting int
	// Waits counts reservations that had to wait, Refused failed calls of TryReserve and TryPin,
	// Evicted closed holders.
	Waits, Refused, Evicted uint64
}

// Stats describes the budget at this moment. For a nil Budget it is zero.
func (b *Budget) Stats() Stats {
	if b == nil {
		return Stats{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Stats{
		Limit: b.limit.Load(), Used: b.used.Load(), Peak: b.peak.Load(),
		ByKind: make(map[string]int64), Holders: len(b.holders), Waiting: len(b.waiting),
		Waits: b.waits.Load(), Refused: b.refused.Load(), Evicted: b.evicted.Load(),
	}
	for h := range b.holders {
		st.ByKind[h.kind] += h.floor + max(h.above.Load(), 0)
	}
	return st
}

// charge adds n bytes to used.
func (b *Budget) charge(n int64) {
	if n == 0 {
		return
	}
	used := b.used.Add(n)
	switch {
	case n < 0:
		if b.pressed.Load() {
			b.mu.Lock()
			b.grant()
			b.mu.Unlock()
		}
		return
	case used > b.limit.Load() && !b.pressed.Load():
		b.mu.Lock()
		b.press()
		b.mu.Unlock()
	}
	b.note(used)
}

// note raises the peak to used.
func (b *Budget) note(used int64) {
	for peak := b.peak.Load(); used > peak && !b.peak.CompareAndSwap(peak, used); {
		peak = b.peak.Load()
	}
}

// tryCharge adds n bytes to used, if allowed returns true for the bytes that then remain free.
func (b *Budget) tryCharge(n int64, allowed func(free int64) bool) bool {
	for {
		used := b.used.Load()
		if !allowed(b.limit.Load() - used - n) {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			b.note(used + n)
			return true
		}
	}
}

// wait queues a reservation. It returns nil if the reservation succeeds after all.
func (b *Budget) wait(h *Holder, n, whole int64) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{holder: h, n: n, whole: max(n, whole), since: time.Now(),
		granted: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.press() // now every release checks the queue
	if b.grant(); w.done() {
		return nil
	}
	b.waits.Add(1)
	return w
}

func (w *waiter) done() bool {
	select {
	case <-w.granted:
		return true
	default:
		return false
	}
}

// cancel ends a wait and reports whether the reservation had been granted.
func (b *Budget) cancel(w *waiter) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiting {
		if other == w {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			return false
		}
	}
	return true
}

// grant grants the reservations that are now allowed, the oldest first. A large one does not hold
// up small ones behind it. The caller holds mu.
func (b *Budget) grant() {
	kept := b.waiting[:0]
	for _, w := range b.waiting {
		if w.holder.tryReserve(w.n, reading) {
			close(w.granted)
		} else {
			kept = append(kept, w)
		}
	}
	clear(b.waiting[len(kept):])
	b.waiting = kept
}

// press starts to watch a shortage if there is one. The caller holds mu.
func (b *Budget) press() {
	if !b.shortage() || b.pressed.Swap(true) {
		return
	}
	b.over, b.looked = time.Time{}, time.Now()
	for h := range b.holders {
		h.look()
		h.gained = 0
	}
	time.AfterFunc(between, b.relieve)
}

// shortage reports whether a reservation waits or the limit is exceeded. The caller holds mu.
func (b *Budget) shortage() bool {
	return len(b.waiting) > 0 || b.used.Load() > b.limit.Load()
}

// relieve checks a shortage at intervals, and closes the largest holder if it lasts.
func (b *Budget) relieve() {
	b.mu.Lock()
	b.grant()
	now := time.Now()
	b.pressed.Store(false)
	if !b.shortage() { // checked again: a charge that found pressed set did nothing
		if b.short {
			b.short, b.ended = false, now
			b.log.Info("the memory budget suffices again", "used", b.used.Load(), "limit",
				b.limit.Load())
		}
		b.mu.Unlock()
		return
	}
	b.pressed.Store(true)
	if !b.short && (b.ended.IsZero() || now.Sub(b.ended) >= quiet) {
		b.short = true
		b.log.Warn("the memory budget is exhausted: peers that hold much are not read; if this is "+
			"no attack, raise the limit", "used", b.used.Load(), "limit", b.limit.Load())
	}
	since := now
	if len(b.waiting) > 0 {
		since = b.waiting[0].since
	}
	if b.used.Load() <= b.limit.Load() {
		b.over = time.Time{}
	} else if b.over.IsZero() {
		b.over = now
	}
	if !b.over.IsZero() && b.over.Before(since) {
		since = b.over
	}
	if now.Sub(b.looked) >= patience {
		b.looked = now
		for h := range b.holders {
			h.look()
		}
	}
	var victim *Holder
	_, closing := b.holders[b.last]
	if now.Sub(since) >= patience && (!closing || now.Sub(b.closed) >= grace) {
		victim = b.victim()
	}
	if victim != nil {
		victim.evicted = true
		b.last, b.closed = victim, now
		b.evicted.Add(1)
	}
	time.AfterFunc(between, b.relieve)
	b.mu.Unlock()
	if victim != nil {
		victim.evict(&ExhaustedError{Held: victim.Held(), Limit: b.limit.Load()})
	}
}

// victim returns the holder to close, or nil if that would not help: then most of the memory waits
// for a sink, which is back-pressure and not the fault of a peer.
//
// It is the largest holder. One that waits counts with all that it needs: closing a holder that
// needs only a little more would waste what it has. One that is active, or waits, counts a quarter.
// The holder that has waited longest is spared, since the memory is meant for it, unless it needs
// more than can ever be free: then it is closed. The caller holds mu.
func (b *Budget) victim() *Holder {
	sum, fixed := int64(0), int64(0) // what can be freed, pinned memory included, and what cannot
	for h := range b.holders {
		if h.evict != nil {
			sum += h.Held()
			fixed -= h.pinned.Load()
		} else {
			fixed += h.Held()
		}
	}
	limit := b.limit.Load()
	if fixed > limit/2 {
		return nil
	}
	waiting := make(map[*Holder]int64, len(b.waiting))
	for _, w := range b.waiting {
		waiting[w.holder] = max(waiting[w.holder], w.whole)
	}
	var spared *Holder
	if len(b.waiting) > 0 {
		w := b.waiting[0]
		held := w.holder.Held()
		if others := sum - held; reading(held+w.n, limit-b.used.Load()+others-w.n, limit) {
			spared = w.holder
		} else if w.holder.evict != nil && !w.holder.evicted {
			return w.holder // it can never go on, whatever else is closed
		}
	}
	largest := func(least int64) (largest *Holder) {
		most := int64(0)
		for h := range b.holders {
			held := h.Held()
			if h.evict == nil || h.evicted || h == spared || held < max(least, h.floor+1) {
				continue
			}
			if whole, waits := waiting[h]; waits || h.active() {
				held = max(held, whole) / 4
			}
			if held > most {
				largest, most = h, held
			}
		}
		return largest
	}
	if h := largest(minVictim); h != nil || spared == nil {
		return h
	}
	// All holders are small, and each may wait for what the others have.
	return largest(0)
}

// ExhaustedError is the reason for closing a holder when the budget is exhausted.
type ExhaustedError struct {
	Held  int64 // by the holder, in bytes
	Limit int64 // of the budget, in bytes
}

// Error implements error.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("the memory budget of %d bytes was exhausted and this one, of %d bytes, "+
		"was to be closed: raise the limit if that happens to honest peers", e.Limit, e.Held)
}
