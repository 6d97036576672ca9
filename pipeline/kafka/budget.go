package kafka

import (
	"context"
	"slices"
	"sync"
)

// budget is a number of bytes of memory that is shared. Who waits is served in turn. For concurrent
// use.
type budget struct {
	size int64 // static

	mu      sync.Mutex
	used    int64           // guarded by mu
	waiting []*budgetWaiter // guarded by mu
}

type budgetWaiter struct {
	n     int64
	ready chan struct{} // closed when it has its share
}

// acquire takes n bytes, all there are if it is more. It waits for them until ctx ends.
func (b *budget) acquire(ctx context.Context, n int64) error {
	n = min(n, b.size)
	b.mu.Lock()
	if len(b.waiting) == 0 && b.used+n <= b.size {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // at the same time
		return nil
	default:
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(v *budgetWaiter) bool { return v == w })
	b.serve()
	return ctx.Err()
}

// release gives back what acquire took with the same n.
func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= min(n, b.size)
	b.serve()
}

// serve gives those who wait their share, in turn. The caller holds mu.
func (b *budget) serve() {
	for len(b.waiting) > 0 && b.used+b.waiting[0].n <= b.size {
		b.used += b.waiting[0].n
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
}

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
