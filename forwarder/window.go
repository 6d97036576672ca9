package forwarder

import "time"

const (
	// holdWindow is the time to which Config.WaitShare refers.
	holdWindow = 5 * time.Second
	// windowParts is the number of parts of a window. A part is forgotten as a whole.
	windowParts = 10
)

// window sums durations over the last holdWindow. The zero value is empty.
type window struct {
	parts [windowParts + 1]time.Duration // the current part and those of the holdWindow before it
	last  int64                          // number of the current part, counted from 1970
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
