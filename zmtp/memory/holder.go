package memory

import "sync/atomic"

// Holder is one user of memory in a Budget: a connection, a sink's window, a spool's buffer. Its
// methods may be called from any goroutine, and do nothing on a nil Holder, which is what a nil
// Budget makes.
type Holder struct {
	budget *Budget
	kind   string
	floor  int64
	evict  func(error) // nil for a holder that cannot be closed

	// above is what is reserved, less floor. Only what exceeds 0 is charged to the budget.
	above  atomic.Int64
	pinned atomic.Int64

	moved atomic.Int64 // see Progress

	// Guarded by Budget.mu.
	evicted bool
	seen    int64 // moved at the last look
	gained  int64 // by how much it had grown then since the look before
}

// NewHolder adds a holder. kind groups holders in Stats.
//
// floor bytes are charged as long as the holder exists, and up to floor bytes it may reserve
// always, at the price of one atomic addition.
//
// evict closes whatever the holder stands for, so that its memory is released. The budget calls it
// at most once, from a goroutine of its own and without a lock. With nil the holder is never
// closed.
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

// Close removes the holder from its budget. What is still reserved counts until it is released.
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

// move changes above by n and returns by how much that changes what is charged.
func (h *Holder) move(n int64) int64 {
	after := h.above.Add(n)
	return max(after, 0) - max(after-n, 0)
}

// A rule tells whether a holder may have held bytes if that leaves free bytes of the limit. Both
// rules are dynamic thresholds, as switches have for the buffers that their ports share: the more a
// holder has, the more it has to leave free. A part of the limit is for holders that have little,
// at most small(limit).
type rule func(held, free, limit int64) bool

// reading is the rule for what comes in. A message under way has to be completed, so the share is
// generous.
func reading(held, free, limit int64) bool {
	return held <= 2*(free-limit/8) || free >= 0 && held <= small(limit)
}

// queueing is the rule for what waits to go out. It leaves a quarter for what comes in.
func queueing(held, free, limit int64) bool {
	return held <= free-limit/4 || free >= 0 && held <= small(limit)
}

// small returns how many bytes a holder may have as long as any memory is left.
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
	// The way back may cross the floor at another place than the way there, if others changed above
	// meanwhile: what counts is the sum of both.
	if delta += h.move(-n); delta != 0 {
		h.budget.used.Add(delta)
	}
	return false
}

// Reserve reserves n bytes for something that comes in. It waits while the budget does not allow
// them, the largest holders longest. It returns false, and reserves nothing, if done is closed
// first. whole is how many bytes what is under way takes in the end, as far as that is known:
// a holder that still lacks much is closed before one that lacks little.
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

// TryReserve reserves n bytes for something that waits to go out, or returns false. It does not
// wait. About a quarter of the budget stays free for what comes in.
func (h *Holder) TryReserve(n int64) bool {
	if h == nil || h.tryReserve(n, queueing) {
		return true
	}
	h.budget.refused.Add(1)
	return false
}

// Add reserves n bytes, also beyond the limit. It does not wait. It is for small amounts, for those
// that something has to take that frees memory, and for what is already there. While the limit is
// exceeded, Reserve waits and large holders are closed.
func (h *Holder) Add(n int64) {
	if h != nil {
		h.budget.charge(h.move(n))
	}
}

// Release gives n reserved bytes back.
func (h *Holder) Release(n int64) { h.Add(-n) }

// TryPin is TryReserve for memory that another holder has reserved and that cannot be freed because
// of this one. It counts for this holder and not once more for the budget.
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

// Pin is TryPin without regard to the limit.
func (h *Holder) Pin(n int64) {
	if h != nil {
		h.pinned.Add(n)
	}
}

// Unpin takes n bytes of TryPin or Pin back.
func (h *Holder) Unpin(n int64) { h.Pin(-n) }

// Progress says that n bytes were moved with the memory: read from a peer or written to it. In a
// shortage, holders that hardly move anything are closed first.
func (h *Holder) Progress(n int) {
	if h != nil {
		h.moved.Add(int64(n))
	}
}

// look notes how much was moved since the last look.
func (h *Holder) look() {
	moved := h.moved.Load()
	h.gained, h.seen = moved-h.seen, moved
}

// active reports whether a good part of what is held was moved since the last look, or between the
// two looks before.
func (h *Holder) active() bool {
	return max(h.gained, h.moved.Load()-h.seen) >= h.Held()/activePart
}

// Held returns how many bytes the holder has reserved and pinned.
func (h *Holder) Held() int64 {
	if h == nil {
		return 0
	}
	return h.above.Load() + h.floor + h.pinned.Load()
}
