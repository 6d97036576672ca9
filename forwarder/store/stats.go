package store

import (
	"sync/atomic"
	"time"
)

// Op is what a program asks of a store.
type Op uint8

// The operations, as they are counted.
const (
	OpPut Op = iota // also conditional ones that were carried out
	OpAdd
	OpSubtract
	OpErase
	OpExpire // change of the expiry only
	OpClear
	numOps
)

// String returns the name of the operation in lower case.
func (o Op) String() string {
	return [...]string{"put", "add", "subtract", "erase", "expire", "clear"}[o]
}

// Timing is how often something was done and how long it took.
type Timing struct {
	Count uint64
	Total time.Duration
	Max   time.Duration
}

type timing struct{ count, total, max atomic.Int64 }

func (t *timing) add(d time.Duration) {
	t.count.Add(1)
	t.total.Add(int64(d))
	for {
		old := t.max.Load()
		if int64(d) <= old || t.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (t *timing) read() Timing {
	return Timing{uint64(t.count.Load()), time.Duration(t.total.Load()), time.Duration(t.max.Load())}
}

// Stats are the counters of a store.
type Stats struct {
	Keys     int
	Bytes    int64  // of all entries, with what the store needs for each
	Expiring int    // entries with an expiry
	Seq      uint64 // of the last change in memory
	// Committed is the number of the last change that has the durability of Config.Sync.
	Committed uint64
	Reads     uint64
	Ops       [numOps]uint64 // by Op; undone ones included
	Expired   uint64         // entries
	Writes    Timing         // Updates with changes, until they had their durability
	Commits   Timing         // transactions of the backend; with Always each waits for the disk
	Pending   int64          // bytes of changes that wait for the backend
	Failure   error          // of the last transaction of the backend
}

// Stats returns a snapshot of the counters.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	st := Stats{Keys: len(s.entries.byKey), Bytes: s.entries.bytes, Expiring: s.entries.expiring,
		Seq: s.seq, Committed: s.history.last, Failure: s.failure}
	s.mu.RUnlock()
	st.Reads, st.Expired = s.reads.Load(), s.expired.Load()
	for op := range st.Ops {
		st.Ops[op] = s.ops[op].Load()
	}
	st.Writes, st.Commits, st.Pending = s.writes.read(), s.commits.read(), s.pendingBytes.Load()
	return st
}
