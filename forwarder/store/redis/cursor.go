package redis

import (
	"sync"

	"zmtpd/forwarder/event"
)

const (
	// maxCursors bounds the cursors of SCAN that are remembered, the last ones.
	maxCursors = 4096
	// maxCursorBytes bounds the memory of their keys.
	maxCursorBytes = 4 << 20
)

// cursors are where the SCANs of all clients go on: a cursor has 64 bits, a key more.
type cursors struct {
	mu    sync.Mutex
	first uint64 // the oldest cursor that is remembered; guarded by mu
	last  uint64 // guarded by mu
	bytes int    // guarded by mu
	at    map[uint64]cursor
}

type cursor struct {
	database int
	key      event.Raw
}

// put remembers where a SCAN goes on, and returns the cursor; 0 for nil, the end.
func (c *cursors) put(database int, key event.Raw) uint64 {
	if key == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at, c.first = map[uint64]cursor{}, 1
	}
	c.last++
	c.at[c.last] = cursor{database, key}
	c.bytes += len(key)
	for c.last-c.first >= maxCursors || c.bytes > maxCursorBytes && c.first < c.last {
		c.bytes -= len(c.at[c.first].key)
		delete(c.at, c.first)
		c.first++
	}
	return c.last
}

// take returns the key of a cursor, which stays valid.
func (c *cursors) take(database int, n uint64) (event.Raw, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.at[n]
	return at.key, ok && at.database == database
}
