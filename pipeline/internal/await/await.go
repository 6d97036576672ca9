// Package await has the ways in which the logger and its sinks wait with a limit: for a time, and for
// something that may hang in a call of the file system.
package await

import (
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

// Done returns a channel that is closed when wait returns.
func Done(wait func()) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		wait()
	}()
	return c
}

// Grace is how long something that was told to give up may still take.
const Grace = 3 * time.Second

// WithGrace returns a context that ends Grace after ctx: what has not returned by then hangs.
func WithGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	hung, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		if Sleep(hung, hung, Grace) {
			cancel()
		}
	})
	return hung, func() { stop(); cancel() }
}

// Until waits for c until ctx ends, and reports whether c is closed.
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
