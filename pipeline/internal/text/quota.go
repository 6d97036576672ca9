package text

import (
	"context"
	"slices"
	"sync"

	"zmtpd/zmtp/memory"
)

// Quota is a number of bytes that the users of a sink share. They count in the memory budget of the
// process. If the budget has no room, a user waits until others of the same quota release memory. A
// part of the quota is always granted, so the users never wait for memory that only they can free.
// Waiting users are served in turn. A user with a share must not wait for another share of the same
// quota. A Quota is safe for concurrent use.
type Quota struct {
	size, least int64          // not changed after NewQuota
	holder      *memory.Holder // nil without a budget

	mu      sync.Mutex
	used    int64          // guarded by mu
	waiting []*quotaWaiter // guarded by mu
}

type quotaWaiter struct {
	n     int64
	ready chan struct{} // closed when the share is granted
}

// NewQuota returns a quota of size bytes. It grants least of them even if the budget has no room.
// budget may be nil; kind is the kind of holder, see [memory.Budget.NewHolder].
func NewQuota(budget *memory.Budget, kind string, size, least int64) *Quota {
	return &Quota{size: size, least: least, holder: budget.NewHolder(kind, 0, nil)}
}

// Close ends the quota. All shares must have been released.
func (q *Quota) Close() { q.holder.Close() }

// Acquire takes a share of n bytes. It waits until the share is granted or one of the contexts
// ends, and reports whether it was granted. If no share is in use, one of any size is granted.
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

// TryAcquire takes n bytes if they are free, and reports whether it did. It does not wait.
func (q *Quota) TryAcquire(n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && q.grant(n)
}

// Release returns n bytes.
func (q *Quota) Release(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= n
	q.holder.Release(n)
	q.serve()
}

// Used returns the number of bytes in use.
func (q *Quota) Used() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

// grant takes n bytes if they are free. If it fails, other shares are in use, and serve will be
// called at their release. The caller holds mu.
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

// serve grants shares to waiting users, in turn. The caller holds mu.
func (q *Quota) serve() {
	for len(q.waiting) > 0 && q.grant(q.waiting[0].n) {
		close(q.waiting[0].ready)
		q.waiting = q.waiting[1:]
	}
}
