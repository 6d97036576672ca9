package cluster

import (
	"context"
	"sync"
)

// mailbox is a bounded queue that one goroutine empties.
type mailbox[T any] struct {
	limit limit[T]
	wake  chan struct{} // holds a token while there may be items

	mu     sync.Mutex
	items  []T // in order; guarded by mu, as closed and limit
	closed bool
}

// limit bounds what a mailbox holds. The mailbox calls it with a lock held.
type limit[T any] interface {
	take(T) bool // makes room for an item, if there is any
	give(T)      // gives the room of an item back
}

func newMailbox[T any](l limit[T]) *mailbox[T] {
	return &mailbox[T]{limit: l, wake: make(chan struct{}, 1)}
}

// add appends an item and reports whether it did: there was room, and the mailbox is not closed.
func (b *mailbox[T]) add(i T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.limit.take(i) {
		return false
	}
	b.items = append(b.items, i)
	b.awake()
	return true
}

// close lets nothing more in.
func (b *mailbox[T]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.awake()
}

// discard removes all items.
func (b *mailbox[T]) discard() {
	for {
		if _, ok, _ := b.next(); !ok {
			return
		}
	}
}

func (b *mailbox[T]) awake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// next takes the first item, if there is one. If there will never be one again, end is true.
func (b *mailbox[T]) next() (i T, ok, end bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.items) == 0 {
		b.items = nil
		return i, false, b.closed
	}
	var none T
	i, b.items[0] = b.items[0], none
	b.items = b.items[1:]
	b.limit.give(i)
	return i, true, false
}

// drain calls f for each item until the mailbox is closed and empty, or ctx ends.
func (b *mailbox[T]) drain(ctx context.Context, f func(context.Context, T)) {
	for ctx.Err() == nil {
		i, ok, end := b.next()
		switch {
		case ok:
			f(ctx, i)
		case end:
			return
		default:
			select {
			case <-b.wake:
			case <-ctx.Done():
			}
		}
	}
}

// item is what waits for the handlers: an event with those for it, or a change in the cluster.
type item struct {
	event    Event
	handlers []handler
	status   *Status
}

func (i *item) size() int64 {
	return int64(len(i.event.Topic) + len(i.event.Name) + len(i.event.Args) + len(i.event.Metadata))
}

// itemLimit bounds events, in number and size, and changes in the cluster.
type itemLimit struct {
	maxEvents, maxStatuses int
	maxBytes               int64

	events, statuses int
	bytes            int64
}

// take implements limit. One event is taken whatever its size.
func (l *itemLimit) take(i item) bool {
	if i.status != nil {
		if l.statuses == l.maxStatuses {
			return false
		}
		l.statuses++
		return true
	}
	if l.events == l.maxEvents || l.events > 0 && l.bytes+i.size() > l.maxBytes {
		return false
	}
	l.events++
	l.bytes += i.size()
	return true
}

// give implements limit.
func (l *itemLimit) give(i item) {
	if i.status != nil {
		l.statuses--
		return
	}
	l.events--
	l.bytes -= i.size()
}

// greetingLimit is the number of greetings that there is still room for.
type greetingLimit int

// take implements limit.
func (l *greetingLimit) take(greeting) bool {
	if *l == 0 {
		return false
	}
	*l--
	return true
}

// give implements limit.
func (l *greetingLimit) give(greeting) { *l++ }
