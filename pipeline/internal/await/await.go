// Package await has the ways in which the logger and its sinks wait with a limit: for some time,
// and for calls of the file system that may hang.
package await

import (
	"cmp"
	"context"
	"time"
)

// Sleep returns true after d, and false as soon as one of the contexts ends.
func Sleep(a, b context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}

// Done returns a channel that is closed when wait has returned.
func Done(wait func()) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		wait()
	}()
	return c
}

// Grace is how long an operation may go on after it was told to give up.
const Grace = 3 * time.Second

// WithGrace returns a context that ends Grace after ctx. An operation that has not returned by then
// counts as hung.
func WithGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	hung, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		if Sleep(hung, hung, Grace) {
			cancel()
		}
	})
	return hung, func() { stop(); cancel() }
}

// Until waits until c is closed or ctx ends, and reports whether c is closed.
func Until(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Backoff is the pause before a failed operation is tried again: first Min, then twice as long each
// time, up to Max. The zero Backoff has 50 ms and 1 s.
type Backoff struct {
	Min, Max time.Duration
	next     time.Duration
}

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, cmp.Or(b.Min, 50*time.Millisecond))
	d = min(d, cmp.Or(b.Max, time.Second))
	b.next = 2 * d
	return d
}

// First reports whether the next pause is the first one.
func (b *Backoff) First() bool { return b.next == 0 }

// Reset makes the next pause the first one again.
func (b *Backoff) Reset() { b.next = 0 }

// Sleep waits for the next pause. It returns false as soon as one of the contexts ends.
func (b *Backoff) Sleep(x, y context.Context) bool { return Sleep(x, y, b.Next()) }
