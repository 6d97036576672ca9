package store

import "context"

// ChangeKind is what a change did.
type ChangeKind uint8

// The kinds of changes.
const (
	Put    ChangeKind = iota // the entry of a key has a new value or expiry
	Erase                    // the entry of a key was removed
	Expire                   // so it was, since its time had come
	Clear                    // all entries were removed
)

// String returns the name of the kind in lower case.
func (k ChangeKind) String() string { return [...]string{"put", "erase", "expire", "clear"}[k] }

// Change is a change of a store. Its memory must not be written to.
type Change struct {
	Kind ChangeKind
	// Last says that it is the last change of its Update. All of them are made at once.
	Last bool
	// Entry is the new entry for Put. For the others it has Seq, Modified and Who, and Key but for
	// Clear.
	*Entry
	Old *Entry // for all but Clear: the entry before, nil if there was none
}

// size returns the memory that only the change keeps, when the store has a newer entry of the key.
func (c *Change) size() int64 {
	all, own := c.Value.memory()
	n := int64(len(c.Key)+len(c.Who)) + own + entryOverhead
	if c.Old != nil {
		before, ownBefore := c.Old.Value.memory()
		if own < all { // made from it
			before = ownBefore
		}
		n += before
	}
	return n
}

// Watch follows a store from one change to the next. It holds nothing up, and takes no memory: one
// that is too slow misses changes, and is told. It needs no end.
type Watch struct {
	s     *Store
	epoch uint64
	seq   uint64
}

// maxNext bounds the changes that [Watch.Next] returns, but for those of one Update.
const maxNext = 4096

// Watch returns the changes behind a number, such as that of [Store.Snapshot].
func (s *Store) Watch(after uint64) *Watch {
	return &Watch{s: s, epoch: s.Epoch(), seq: after}
}

// Next waits for changes and returns them in order: at most some thousand, but all of an Update
// together. The error is [StaleData] if the store no longer has the next change; then take a new
// Snapshot. It is [ShuttingDown] when the store is closed, and the cause of ctx's end.
func (w *Watch) Next(ctx context.Context) ([]Change, error) {
	for {
		w.s.mu.Lock()
		changes, ok := w.s.history.after(w.seq, maxNext)
		if !ok || w.epoch != w.s.epoch {
			have := w.s.history.last
			w.s.mu.Unlock()
			return nil, Errorf(StaleData, "the changes behind %d are no longer kept, the last is %d",
				w.seq, have)
		}
		if len(changes) > 0 {
			w.s.mu.Unlock()
			w.seq = changes[len(changes)-1].Seq
			return changes, nil
		}
		if w.s.closed {
			w.s.mu.Unlock()
			return nil, Errorf(ShuttingDown, "the store %s is closed", w.s.cfg.Name)
		}
		if w.s.history.news == nil {
			w.s.history.news = make(chan struct{})
		}
		news := w.s.history.news
		w.s.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
