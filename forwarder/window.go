package forwarder

import "time"

const (
	// holdWindow is the time over which Config.WaitShare holds.
	holdWindow = 5 * time.Second
	// windowParts is the number of parts into which it is divided, the granularity of a window.
	windowParts = 10
)

// window sums durations over the last holdWindow. The zero value is empty.
type window struct {
	parts [windowParts + 1]time.Duration // the current part and the holdWindow before it
	last  int64                          // the number of the current part, counted from 1970
}

// add adds d at the time now.
func (w *window) add(now time.Time, d time.Duration) {
	w.advance(now)
	w.parts[w.last%int64(len(w.parts))] += d
}

// sum returns the sum at the time now.
func (w *window) sum(now time.Time) (total time.Duration) {
	w.advance(now)
	for _, d := range w.parts {
		total += d
	}
	return total
}

// advance forgets the parts that are too old.
func (w *window) advance(now time.Time) {
	n := now.UnixNano() / int64(holdWindow/windowParts)
	if n-w.last >= int64(len(w.parts)) {
		clear(w.parts[:])
		w.last = n
	}
	for w.last < n {
		w.last++
		w.parts[w.last%int64(len(w.parts))] = 0
	}
}
