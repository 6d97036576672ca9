package store

import "zmtpd/zmtp/memory"

// account is what a store has reserved in the memory budget of the process. It is guarded by
// Store.mu. It reserves more than is needed and gives back late, so that few writes cost more than
// a comparison.
type account struct {
	holder   *memory.Holder
	reserved int64
	closed   bool
}

// accountStep is how much an account reserves beside what is needed, in bytes.
const accountStep = 64 << 10

// reserve reserves what is missing for a store that will have n bytes. It returns false if the
// budget has not so much.
func (a *account) reserve(n int64) bool {
	more := n + accountStep - a.reserved
	if n <= a.reserved || a.closed {
		return true
	}
	if !a.holder.TryReserve(more) {
		return false
	}
	a.reserved += more
	return true
}

// settle brings what is reserved near to the n bytes that the store has.
func (a *account) settle(n int64) {
	if a.closed || n <= a.reserved && a.reserved <= n+4*accountStep {
		return
	}
	a.holder.Add(n + accountStep - a.reserved)
	a.reserved = n + accountStep
}

func (a *account) close() {
	a.holder.Release(a.reserved)
	a.holder.Close()
	a.reserved, a.closed = 0, true
}

// memory returns the bytes that the store has: entries, and changes for those who follow or that
// wait for the backend.
func (s *Store) memory() int64 {
	return s.entries.bytes + s.history.bytes + s.pendingBytes.Load()
}
