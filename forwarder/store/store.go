package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp/memory"
)

// Config configures a [Store].
type Config struct {
	Name    string  // up to 64 letters, digits, and any of _ -
	Backend Backend // default nil: in memory only; the Store closes it
	Sync    Sync    // as the Backend was made with

	MaxKey   int   // bytes of a key in broker-bin-v1; default 64 KiB
	MaxValue int   // of a value; default 16 MiB
	MaxBytes int64 // of all entries, with what the store needs for each; default 1 GiB
	History  int64 // bytes of changes that are kept for those who follow; default 16 MiB
	// Memory is the budget of the process, in which the store's memory counts. A write that needs
	// memory which the budget has not is refused. Default: no limit but MaxBytes.
	Memory *memory.Budget

	// Follower says that the store repeats the changes of another one, see [Store.Replay]. It has
	// no other changes, and entries expire by the clock of this host and by the other store's
	// changes.
	Follower bool

	Logger *slog.Logger // default: nothing is logged
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckName checks the name of a store.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("the name of a store has up to 64 letters, digits, _ and -, not %q", name)
	}
	return nil
}

// Store is a store. Its methods may be called from any goroutine.
type Store struct {
	cfg Config

	mu      sync.RWMutex
	epoch   uint64
	entries *entries
	seq     uint64 // of the last change in memory
	history history
	next    *commit // what the backend gets next; nil without one
	failure error   // of the last commit
	closed  bool
	account account
	spare   []Change // memory for the changes of the next Update, without a backend

	wake    chan struct{} // there is something to commit, capacity 1
	end     chan struct{} // closed by Close
	running sync.WaitGroup

	reads, expired atomic.Uint64
	ops            [numOps]atomic.Uint64
	writes         timing // Updates that changed something, from their call to their end
	commits        timing // calls of Backend.Commit
	pendingBytes   atomic.Int64
}

// commit is what one transaction of the backend has.
type commit struct {
	changes []Change
	txs     []*Tx
	bytes   int64
	done    chan struct{} // closed when it is over
	err     error
}

// Open opens a store and reads the entries of its backend. After an error the backend is closed.
func Open(cfg Config) (*Store, error) {
	if cfg.MaxKey == 0 {
		cfg.MaxKey = 64 << 10
	}
	if cfg.MaxValue == 0 {
		cfg.MaxValue = 16 << 20
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.History == 0 {
		cfg.History = 16 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, entries: newEntries(), epoch: newEpoch(), wake: make(chan struct{}, 1),
		end: make(chan struct{})}
	err := CheckName(cfg.Name)
	s.account.holder = cfg.Memory.NewHolder("stores", 0, nil)
	if err == nil && cfg.Backend != nil {
		s.next = &commit{done: make(chan struct{})}
		err = s.load()
	}
	if err != nil {
		if cfg.Backend != nil {
			cfg.Backend.Close()
		}
		s.account.close()
		return nil, err
	}
	s.history = history{limit: cfg.History, last: s.seq}
	s.account.settle(s.memory())
	if !cfg.Follower {
		s.running.Go(s.expire)
	}
	if cfg.Backend != nil {
		s.running.Go(s.commit)
	}
	return s, nil
}

func newEpoch() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (s *Store) load() (err error) {
	s.seq, err = s.cfg.Backend.Load(func(e *Entry) error {
		key, err := canonical(e.Key)
		if err != nil {
			return err
		}
		if e.Value.raw, err = canonical(e.Value.raw); err != nil {
			return err
		}
		e.Key = key
		s.entries.set(key, e)
		if s.entries.bytes > s.cfg.MaxBytes {
			return Errorf(BackendFailure, "the store %s has more than %d bytes", s.cfg.Name,
				s.cfg.MaxBytes)
		}
		return nil
	})
	return err
}

// Name returns the name of the store.
func (s *Store) Name() string { return s.cfg.Name }

// Epoch returns a random number that tells this run of the store from others. [Store.Reset] begins
// another run.
func (s *Store) Epoch() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// Update calls f, which reads and changes the store. If f returns nil, Update waits until the
// changes have the durability of Config.Sync. If it returns an error, nothing is changed, and the
// error is that of Update. who is noted as the author of the changes. f runs with the store locked:
// it must not wait for anything, nor call methods of the store.
//
// When ctx ends first, Update returns its cause, and the changes may or may not be made.
func (s *Store) Update(ctx context.Context, who string, f func(*Tx) error) error {
	pending, err := s.Start(who, f)
	if err != nil {
		return err
	}
	return pending.Wait(ctx)
}

// Pending is an Update whose changes are made in memory.
type Pending struct {
	s      *Store
	seq    uint64
	commit *commit // nil if there is nothing to wait for
	begin  time.Time
}

// Seq returns the number of the last change, or the one before if there is none.
func (p Pending) Seq() uint64 { return p.seq }

// Wait waits as Update does.
func (p Pending) Wait(ctx context.Context) error {
	if p.commit == nil {
		return nil
	}
	select {
	case <-p.commit.done:
		p.s.writes.add(time.Since(p.begin))
		return p.commit.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Start is Update without waiting for the backend, to do so for several Updates at once. It waits
// while too many changes wait for the backend.
func (s *Store) Start(who string, f func(*Tx) error) (Pending, error) {
	p := Pending{s: s, begin: time.Now()}
	if err := s.room(); err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return p, Errorf(ShuttingDown, "the store %s is closed", s.cfg.Name)
	}
	if s.cfg.Follower {
		return p, Errorf(InvalidData, "this is a clone of %s: write to its master", s.cfg.Name)
	}
	tx := &Tx{s: s, who: who, now: p.begin.Round(0), changes: s.spare}
	s.spare = nil
	whole := false
	defer func() { // also if f panics
		if !whole {
			tx.undo()
		}
	}()
	if err := f(tx); err != nil {
		return p, err
	}
	whole = true
	p.seq = s.seq
	defer func() { s.account.settle(s.memory()) }()
	n := len(tx.changes)
	if n == 0 {
		// What f has read may not be on disk yet.
		if s.cfg.Sync != Off && s.next != nil && s.pendingBytes.Load() > 0 {
			p.commit = s.next
			s.wakeUp()
		}
		return p, nil
	}
	tx.changes[n-1].Last = true
	if s.next == nil {
		s.history.append(tx.changes)
		if cap(tx.changes) <= maxSpare {
			clear(tx.changes)
			s.spare = tx.changes[:0]
		}
		s.writes.add(time.Since(p.begin))
		return p, nil
	}
	for i := range tx.changes {
		size := tx.changes[i].size()
		s.next.bytes += size
		s.pendingBytes.Add(size)
	}
	s.next.changes = append(s.next.changes, tx.changes...)
	s.next.txs = append(s.next.txs, tx)
	if s.cfg.Sync == Off {
		s.history.append(tx.changes)
		s.writes.add(time.Since(p.begin))
	} else {
		p.commit = s.next
	}
	s.wakeUp()
	return p, nil
}

// maxSpare bounds what Store.spare keeps, in changes.
const maxSpare = 1024

// wakeUp makes the committer take what there is.
func (s *Store) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// room waits while the backend has too much to do.
func (s *Store) room() error {
	for s.pendingBytes.Load() > maxPending {
		s.mu.RLock()
		next, failure := s.next, s.failure
		s.mu.RUnlock()
		if failure != nil {
			return failure
		}
		select {
		case <-next.done:
		case <-s.end:
			return nil // refused by the caller
		}
	}
	return nil
}

// commit gives the backend what there is, until the store is closed and nothing is left.
func (s *Store) commit() {
	timer := time.NewTicker(syncInterval)
	defer timer.Stop()
	dirty, ending := false, false
	for !ending {
		select {
		case <-s.wake:
		case <-timer.C:
			if s.failing() {
				s.commitOne(&commit{done: make(chan struct{})})
			} else if dirty && s.cfg.Sync == Group {
				dirty = false
				if err := s.cfg.Backend.Sync(); err != nil {
					s.cfg.Logger.Error("the store's changes could not be brought to the disk",
						"store", s.cfg.Name, "error", err)
				}
			}
			continue
		case <-s.end:
			ending = true
		}
		dirty = true
		s.mu.Lock()
		c := s.next
		s.next = &commit{done: make(chan struct{})}
		s.mu.Unlock()
		s.commitOne(c)
	}
}

func (s *Store) failing() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failure != nil
}

// commitOne gives the backend a commit. One without changes finds out whether a backend that has
// failed takes changes again.
func (s *Store) commitOne(c *commit) {
	for {
		begin := time.Now()
		var err error
		if len(c.changes) > 0 || s.failing() {
			err = s.cfg.Backend.Commit(c.changes)
			s.commits.add(time.Since(begin))
		}
		s.mu.Lock()
		if err != nil {
			err = Errorf(BackendFailure, "store %s: %v", s.cfg.Name, err)
		}
		if changed := (err == nil) != (s.failure == nil); changed && err != nil {
			s.cfg.Logger.Error("the backend of the store takes no changes", "store", s.cfg.Name,
				"error", err)
		} else if changed {
			s.cfg.Logger.Info("the backend of the store takes changes again", "store", s.cfg.Name)
		}
		s.failure = err
		if err != nil && s.cfg.Sync == Off {
			s.mu.Unlock()
			select {
			case <-time.After(retryAfter):
				continue
			case <-s.end:
				s.cfg.Logger.Error("changes of the store are lost", "store", s.cfg.Name,
					"changes", len(c.changes))
				s.mu.Lock()
			}
		} else if err != nil {
			// What came after depends on it.
			s.next.undo(s)
			s.next.finish(s, err)
			s.next = &commit{done: make(chan struct{})}
			c.undo(s)
		} else if s.cfg.Sync != Off {
			s.history.append(c.changes)
		}
		c.finish(s, err)
		s.mu.Unlock()
		return
	}
}

func (c *commit) undo(s *Store) {
	for i := len(c.txs) - 1; i >= 0; i-- {
		c.txs[i].undo()
	}
}

func (c *commit) finish(s *Store, err error) {
	c.err = err
	s.pendingBytes.Add(-c.bytes)
	close(c.done)
}

// expireTick is how often expired entries are removed, as in Broker (internal/master_actor.cc).
const expireTick = 100 * time.Millisecond

// expire removes expired entries. Others see no difference but in Len and what is counted.
func (s *Store) expire() {
	ticker := time.NewTicker(expireTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.end:
			return
		}
		for s.expireSome() {
		}
	}
}

// expireSome removes some expired entries, and returns whether there may be more.
func (s *Store) expireSome() bool {
	const some = 1000
	s.mu.RLock()
	none := len(s.entries.deadline) == 0 || !s.entries.deadline[0].expired(time.Now())
	s.mu.RUnlock()
	if none {
		return false
	}
	n := 0
	p, err := s.Start("", func(tx *Tx) error {
		for _, e := range s.entries.due(tx.now, some) {
			if err := tx.remove(Expire, e.Key); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil || p.Wait(context.Background()) != nil {
		return false
	}
	s.expired.Add(uint64(n))
	return n == some
}

// Get returns the entry of a key, nil if there is none.
func (s *Store) Get(key event.Raw) *Entry {
	s.reads.Add(1)
	key, err := canonical(key)
	if err != nil {
		return nil
	}
	s.mu.RLock()
	e := s.entries.get(key)
	s.mu.RUnlock()
	if e == nil || e.expired(time.Now()) {
		return nil
	}
	return e
}

// List returns up to limit entries from a key on, in the order of keys ([event.Compare]); from the
// first one for nil. A later change does not change the list.
func (s *Store) List(from event.Raw, limit int) []*Entry {
	s.reads.Add(1)
	if from != nil {
		from, _ = canonical(from)
	}
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*Entry
	for e := range s.entries.order.from(from) {
		if len(list) == limit {
			break
		}
		if !e.expired(now) {
			list = append(list, e)
		}
	}
	return list
}

// Snapshot returns all entries, expired ones included that have not been removed yet, and the
// number of the last change, behind which a [Watch] goes on. All of it has the durability of
// Config.Sync.
func (s *Store) Snapshot(ctx context.Context) (entries []*Entry, seq uint64, err error) {
	p, err := s.Start("", func(tx *Tx) error {
		entries = make([]*Entry, 0, len(s.entries.byKey))
		for e := range s.entries.order.from(nil) {
			entries = append(entries, e)
		}
		return nil
	})
	if err == nil {
		err = p.Wait(ctx)
	}
	return entries, p.seq, err
}

// Close ends the store, and its backend, when all changes are committed. It returns the first error
// of that.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.history.news != nil {
		close(s.history.news)
		s.history.news = nil
	}
	s.mu.Unlock()
	close(s.end)
	s.running.Wait()
	s.mu.Lock()
	err := s.failure
	s.account.close()
	s.mu.Unlock()
	if s.cfg.Backend != nil {
		if e := s.cfg.Backend.Close(); err == nil {
			err = e
		}
	}
	return err
}
