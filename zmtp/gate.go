package zmtp

import "sync"

// gate wakes all goroutines that wait for a condition. A waiter calls wait, then checks the
// condition, then receives from the channel.
type gate struct {
	also *watchers // they are woken, too, unless it is nil; set before the first use

	mu sync.Mutex
	ch chan struct{} // nil while no goroutine waits
}

// wait returns a channel that the next open closes.
func (g *gate) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ch == nil {
		g.ch = make(chan struct{})
	}
	return g.ch
}

// open wakes all that wait.
func (g *gate) open() {
	g.mu.Lock()
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
	}
	g.mu.Unlock()
	g.also.open()
}
