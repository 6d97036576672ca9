package text

import (
	"context"
	"slices"
	"sync"

	"zmtpd/zmtp/memory"
)

// Quota is a number of bytes that the users of a sink share, and that count in the memory budget of
// the process. When the budget has no more, users wait until others of the same quota are done, but
// a part of the quota is always granted: so it never depends on memory that only its own users can
// free. A user that has a share must not wait for another share of the same quota. Waiting users
// are served in turn. For concurrent use.
type Quota struct {
	size, least int64          // static
	holder      *memory.Holder // nil without a budget

	mu      sync.Mutex
	used    int64          // guarded by mu
	waiting []*quotaWaiter // guarded by mu
}

type quotaWaiter struct {
	n     int64
	ready chan struct{} // closed when it has its share
}

// NewQuota returns a quota of size bytes, of which least are granted whatever the budget says.
// budget may be nil; kind is that of [memory.Budget.NewHolder].
func NewQuota(budget *memory.Budget, kind string, size, least int64) *Quota {
	return &Quota{size: size, least: least, holder: budget.NewHolder(kind, 0, nil)}
}

// Close ends the quota when all is released.
func (q *Quota) Close() { q.holder.Close() }

// Acquire takes n bytes. It waits for them until one of the contexts ends, and reports whether it
// has them. One share is granted whatever its size.
func (q *Quota) Acquire(a, b context.Context, n int64) bool {
	q.mu.Lock()
	if len(q.waiting) == 0 && q.grant(n) {
		q.mu.Unlock()
		return true
	}
	w := &quotaWaiter{n, make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.ready: // at the same time
		return true
	default:
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(v *quotaWaiter) bool { return v == w })
	q.serve()
	return false
}

// TryAcquire takes n bytes if that needs no waiting, and reports whether it has.
func (q *Quota) TryAcquire(n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && q.grant(n)
}

// Release gives n bytes back.
func (q *Quota) Release(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= n
	q.holder.Release(n)
	q.serve()
}

// Used returns how many bytes are taken.
func (q *Quota) Used() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

// grant takes n bytes if they are there. If not, others have some and will release them. The caller
// holds mu.
func (q *Quota) grant(n int64) bool {
	switch {
	case q.used == 0, q.used+n <= min(q.least, q.size):
		q.holder.Add(n)
	case q.used+n > q.size || !q.holder.TryReserve(n):
		return false
	}
	q.used += n
	return true
}

// serve gives waiting users their shares, in turn. The caller holds mu.
func (q *Quota) serve() {
	for len(q.waiting) > 0 && q.grant(q.waiting[0].n) {
		close(q.waiting[0].ready)
		q.waiting = q.waiting[1:]
	}
}
