package store

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// Backend keeps the entries of a store beyond the process. A store without one is in memory only.
// The store calls one method at a time.
type Backend interface {
	// Load calls add for each entry, and returns the number of the last change, 0 if it is not
	// known. add copies nothing: the memory of the entry goes over to it. Load ends with an error
	// of add.
	Load(add func(*Entry) error) (seq uint64, err error)
	// Commit makes the changes, all or none. They are in order; the last one for a key counts. When
	// Commit returns, the changes survive what [Sync] says, with which the backend was made. Commit
	// must not keep the memory. Without changes, Commit writes something all the same: the store
	// asks once a second whether a backend that has failed works again.
	Commit(changes []Change) error
	// Sync brings what Commit has taken to the disk; it is called once a second with [Group] if
	// there was something to commit.
	Sync() error
	// Close ends the backend. Everything that was committed is on disk then.
	Close() error
}

// Final returns what changes that a Backend commits together leave to be written: whether there is
// a Clear, which goes first, and of each key the last change behind it, in the order of their
// bytes.
func Final(changes []Change) (cleared bool, final []*Change) {
	begin := 0
	for i, c := range changes {
		if c.Kind == Clear {
			begin = i + 1
		}
	}
	sorted := make([]*Change, 0, len(changes)-begin)
	for i := begin; i < len(changes); i++ {
		sorted = append(sorted, &changes[i])
	}
	slices.SortStableFunc(sorted, func(x, y *Change) int { return bytes.Compare(x.Key, y.Key) })
	for i, c := range sorted {
		if i+1 == len(sorted) || !bytes.Equal(c.Key, sorted[i+1].Key) {
			final = append(final, c)
		}
	}
	return begin > 0, final
}

// Sync is when an Update returns, and so which of its changes survive.
type Sync uint8

// The settings.
const (
	Always Sync = iota // they are on disk: they survive a power failure
	Group              // the operating system has them; after a second they are on disk
	Off                // they are in memory; within a second the operating system has them
)

// String returns the name of the setting in lower case.
func (s Sync) String() string { return [...]string{"always", "group", "off"}[s] }

// UnmarshalText reads the name of a setting.
func (s *Sync) UnmarshalText(text []byte) error {
	for v := Always; v <= Off; v++ {
		if v.String() == string(text) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is none of always, group, off", text)
}

const (
	// syncInterval is between calls of Backend.Sync with Group, and of a Backend that fails.
	syncInterval = time.Second
	retryAfter   = time.Second // a commit with Off that has failed
	maxPending   = 64 << 20    // bytes of changes that wait for the backend; then Updates wait
)
