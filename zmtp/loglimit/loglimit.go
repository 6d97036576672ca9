// Package loglimit bounds the log lines about an event that may happen any number of times, such as
// a client that is refused and tries again for ever.
package loglimit

import (
	"sync"
	"time"
)

// Window is the time in which an event is logged once.
const Window = time.Minute

// Limiter decides which events are logged. For each cause, and in each Window, these are the first
// event of a subject, and the events of at most as many subjects as New was given. A Limiter holds
// the subjects of one Window. Its methods may be called from any goroutine, and do not block.
type Limiter struct {
	subjects int

	mu     sync.Mutex
	causes map[string]*cause // guarded by mu
}

// cause is what happened for one cause in the current window.
type cause struct {
	since time.Time
	seen  map[string]struct{}
	more  uint64 // subjects that were not logged
}

// New returns a Limiter that admits events of so many subjects for each cause and Window. Causes
// must come from a fixed set: each is held for good. Subjects may be anything.
func New(subjects int) *Limiter {
	return &Limiter{subjects: subjects, causes: map[string]*cause{}}
}

// Admit reports whether an event is to be logged, and how many events for this cause were not
// logged for want of room in the window before: with the first event of a new window, else 0.
func (l *Limiter) Admit(name, subject string) (more uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.causes[name]
	if c == nil {
		c = &cause{}
		l.causes[name] = c
	}
	if now := time.Now(); c.seen == nil || now.Sub(c.since) > Window {
		more = c.more
		*c = cause{since: now, seen: map[string]struct{}{}}
	}
	if _, seen := c.seen[subject]; seen {
		return 0, false
	}
	if len(c.seen) >= l.subjects {
		c.more++
		return 0, false
	}
	c.seen[subject] = struct{}{}
	return more, true
}
