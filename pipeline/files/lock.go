package files

import "context"

// mutex is a lock with a limit for waiting: its holder may hang in a call of the file system.
type mutex chan struct{}

func newMutex() mutex { return make(mutex, 1) }

func (m mutex) lock()   { m <- struct{}{} }
func (m mutex) unlock() { <-m }

// tryLock locks m if nobody holds it, and reports whether it has.
func (m mutex) tryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// lockUntil locks m, or returns false as soon as one of the contexts ends.
func (m mutex) lockUntil(a, b context.Context) bool {
	if m.tryLock() {
		return true
	}
	select {
	case m <- struct{}{}:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}

// semaphore limits the number of goroutines that do something at a time.
type semaphore chan struct{}

func (s semaphore) acquire() { s <- struct{}{} }

// tryAcquire is acquire that does not wait, and reports whether it has.
func (s semaphore) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s semaphore) release() { <-s }
