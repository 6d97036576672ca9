package memory

import "sync/atomic"

// Holder is one user of memory in a Budget: a connection, a sink's window, a spool's buffer. It is
// safe for concurrent use. The methods of a nil Holder, as from a nil Budget, do nothing.
type Holder struct {
	budget *Budget
	kind   string
	floor  int64
	evict  func(error) // nil if it cannot be closed

	// above is the amount reserved minus floor. Only what exceeds 0 is charged to the budget.
	above  atomic.Int64
	pinned atomic.Int64

	moved atomic.Int64 // see Progress

	// Guarded by Budget.mu.
	evicted bool
	seen    int64 // value of moved at the last look
	gained  int64 // growth of moved between the last two looks
}

// NewHolder adds a holder. kind groups holders in Stats.
//
// floor bytes are charged as long as the holder exists. It may always reserve up to floor bytes, at
// the cost of one atomic addition.
//
// evict closes the user of the memory, so that the memory is released. The budget calls it at most
// once, from a goroutine of its own and without a lock. If it is nil, the holder is never closed.
func (b *Budget) NewHolder(kind string, floor int64, evict func(error)) *Holder {
	if b == nil {
		return nil
	}
	h := &Holder{budget: b, kind: kind, floor: floor, evict: evict}
	h.above.Store(-floor)
	b.mu.Lock()
	b.holders[h] = struct{}{}
	b.mu.Unlock()
	b.charge(floor)
	return h
}

// Close removes the holder from its budget. Memory that is still reserved counts until it is
// released.
func (h *Holder) Close() {
	if h == nil {
		return
	}
	b := h.budget
	b.mu.Lock()
	_, open := b.holders[h]
	delete(b.holders, h)
	b.mu.Unlock()
	if open {
		b.charge(h.move(h.floor) - h.floor)
	}
}

// move changes above by n and returns the resulting change of what is charged.
func (h *Holder) move(n int64) int64 {
	after := h.above.Add(n)
	return max(after, 0) - max(after-n, 0)
}

// A rule reports whether a holder may have held bytes if free bytes of the limit then remain. Both
// rules are dynamic thresholds, as in switches for the buffers that their ports share: the more a
// holder has, the more it has to leave free. A part of the limit, at most small(limit), is for
// small holders.
type rule func(held, free, limit int64) bool

// reading is the rule for input. Its share is large, since a message that has begun has to be
// completed.
func reading(held, free, limit int64) bool {
	return held <= 2*(free-limit/8) || free >= 0 && held <= small(limit)
}

// queueing is the rule for output. It leaves a quarter for input.
func queueing(held, free, limit int64) bool {
	return held <= free-limit/4 || free >= 0 && held <= small(limit)
}

// small returns the number of bytes that a holder may have as long as any memory is left.
func small(limit int64) int64 { return min(max(limit/256, 64<<10), 1<<20) }

// tryReserve reserves n bytes if the rule allows it.
func (h *Holder) tryReserve(n int64, r rule) bool {
	delta := h.move(n)
	if delta <= 0 {
		return true // within the floor
	}
	held := h.Held()
	limit := h.budget.limit.Load()
	if h.budget.tryCharge(delta, func(free int64) bool { return r(held, free, limit) }) {
		return true
	}
	// The way back may cross the floor at another place than the way there if others have changed
	// above. The sum of both counts.
	if delta += h.move(-n); delta != 0 {
		h.budget.used.Add(delta)
	}
	return false
}

// Reserve reserves n bytes for input. While the budget does not allow them it waits, longest for
// the largest holders. It returns false, and reserves nothing, if done is closed first. whole is
// the number of bytes that the message or the like will take in the end, as far as known: of
// holders that wait, one that still lacks much is closed before one that lacks little.
func (h *Holder) Reserve(n, whole int64, done <-chan struct{}) bool {
	if h == nil || h.tryReserve(n, reading) {
		return true
	}
	w := h.budget.wait(h, n, whole)
	if w == nil {
		return true
	}
	select {
	case <-w.granted:
		return true
	case <-done:
	}
	if h.budget.cancel(w) {
		h.Release(n)
	}
	return false
}

// TryReserve reserves n bytes for output, or returns false. It does not wait. About a quarter of
// the budget stays free for input.
func (h *Holder) TryReserve(n int64) bool {
	if h == nil || h.tryReserve(n, queueing) {
		return true
	}
	h.budget.refused.Add(1)
	return false
}

// Add reserves n bytes, even beyond the limit, and does not wait. Use it for small amounts, for
// memory that is needed to free other memory, and for memory that is already in use. While the
// limit is exceeded, Reserve waits and large holders are closed.
func (h *Holder) Add(n int64) {
	if h != nil {
		h.budget.charge(h.move(n))
	}
}

// Release returns n reserved bytes.
func (h *Holder) Release(n int64) { h.Add(-n) }

// TryPin is TryReserve for memory that another holder has reserved, and that cannot be freed
// because of this one. It counts for this holder, but not again for the budget.
func (h *Holder) TryPin(n int64) bool {
	if h == nil {
		return true
	}
	held := h.Held() + n
	limit := h.budget.limit.Load()
	if held > h.floor && !queueing(held, limit-h.budget.used.Load(), limit) {
		h.budget.refused.Add(1)
		return false
	}
	h.pinned.Add(n)
	return true
}

// Pin is TryPin without a limit.
func (h *Holder) Pin(n int64) {
	if h != nil {
		h.pinned.Add(n)
	}
}

// Unpin undoes TryPin or Pin of n bytes.
func (h *Holder) Unpin(n int64) { h.Pin(-n) }

// Progress reports that n bytes were moved with the memory: read from a peer or written to one. In
// a shortage, holders that hardly move data are closed first.
func (h *Holder) Progress(n int) {
	if h != nil {
		h.moved.Add(int64(n))
	}
}

// look records how much was moved since the last look.
func (h *Holder) look() {
	moved := h.moved.Load()
	h.gained, h.seen = moved-h.seen, moved
}

// active reports whether a good part of the memory was moved since the last look, or between the
// two looks before.
func (h *Holder) active() bool {
	return max(h.gained, h.moved.Load()-h.seen) >= h.Held()/activePart
}

// Held returns the number of bytes that the holder has reserved and pinned.
func (h *Holder) Held() int64 {
	if h == nil {
		return 0
	}
	return h.above.Load() + h.floor + h.pinned.Load()
}
