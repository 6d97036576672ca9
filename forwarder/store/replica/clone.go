package replica

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/zmtp/memory"
)

// CloneConfig configures a [Clone].
type CloneConfig struct {
	Name     string // of the store
	Bus      Bus
	MaxBytes int64          // of all entries; default 1 GiB
	Memory   *memory.Budget // of the process, in which the copy counts; default: none
	Logger   *slog.Logger   // default: nothing is logged
}

// Clone follows a store that has its master elsewhere.
type Clone struct {
	cfg     CloneConfig
	store   *store.Store
	topic   string // of answers
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	synced   bool   // the store has a state of the master
	epoch    uint64 // of that master
	master   string
	known    uint64 // number of a change that the master had at a sign of life
	before   uint64 // and at the one before
	heard    time.Time
	asked    time.Time
	signs    int            // of life of the master
	told     int            // those when the clone last told the master that it follows it
	lacks    uint64         // what the clone had not at the last one, of what the master had
	parts    []*store.Entry // of a snapshot under way
	next     uint64         // its next part
	of       [2]uint64      // its epoch and number
	size     int64
	id       uint64 // of the last request
	waiting  map[uint64]chan reply
	healed   uint64
	snapshot uint64
	changed  chan struct{} // closed when synced changes
}

// CloneStatus is the state of a Clone.
type CloneStatus struct {
	Synced    bool // it has had all entries
	Stale     bool // it has not, or the master was not heard of for 5 s
	Seq       uint64
	Behind    uint64 // changes that the master is known to have and the clone has not
	Master    string // names the master to people
	Heard     time.Time
	Asked     uint64 // times that the clone asked for what it lacked
	Snapshots uint64 // that it has taken
}

// NewClone follows a store. The caller must call Close, before it ends the bus.
func NewClone(cfg CloneConfig) (*Clone, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	s, err := store.Open(store.Config{Name: cfg.Name, MaxBytes: cfg.MaxBytes, Follower: true,
		Memory: cfg.Memory, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	var id [8]byte
	rand.Read(id[:])
	c := &Clone{cfg: cfg, store: s, waiting: map[uint64]chan reply{},
		topic: "zmtpd.store." + cfg.Name + ".reply." + hex.EncodeToString(id[:]) + "."}
	c.ctx, c.stop = context.WithCancel(context.Background())
	cfg.Bus.HandleAll(c.handle)
	for _, topic := range []string{ClonesTopic(cfg.Name), c.topic} {
		if err := cfg.Bus.Subscribe(topic); err != nil {
			s.Close()
			return nil, err
		}
	}
	c.running.Go(c.watchdog)
	return c, nil
}

// Close ends the Clone and its store.
func (c *Clone) Close() {
	c.stop()
	c.running.Wait()
	c.store.Close()
}

// Store returns the copy, to read and to watch. It is empty until the first snapshot has come, and
// cannot be written to.
func (c *Clone) Store() *store.Store { return c.store }

// Status returns the state of the clone.
func (c *Clone) Status() CloneStatus {
	seq := c.store.Stats().Seq
	c.mu.Lock()
	defer c.mu.Unlock()
	st := CloneStatus{Synced: c.synced, Seq: seq, Master: c.master, Heard: c.heard, Asked: c.healed,
		Snapshots: c.snapshot, Stale: !c.synced || time.Since(c.heard) > staleAfter}
	if c.known > seq {
		st.Behind = c.known - seq
	}
	return st
}

// Ready waits until the clone has all entries. The error is [store.NoSuchMaster] if ctx ends first.
func (c *Clone) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.synced {
			c.mu.Unlock()
			return nil
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return store.Errorf(store.NoSuchMaster, "no master of %s has answered", c.cfg.Name)
		}
	}
}

// Apply sends writes to the master, and waits for its answer. All are made or none. who names their
// author, up to 256 bytes, empty for this node; the master notes it with the node. Apply asks again
// until ctx ends, with [store.RequestTimeout]; then the writes may or may not be made. The clone
// may get the changes later than the answer.
func (c *Clone) Apply(ctx context.Context, who string, writes ...store.Write) (store.Applied,
	error) {
	answer := make(chan reply, 1)
	c.mu.Lock()
	c.id++
	id := c.id
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	list := encodeWrites(writes)
	for {
		err := c.publish("zmtpd_store_batch", c.topic, id, who, list)
		if err != nil && ctx.Err() == nil {
			c.cfg.Logger.Debug("a write was not sent", "store", c.cfg.Name, "err", err)
		}
		timer := time.NewTimer(askAgain)
		select {
		case r := <-answer:
			timer.Stop()
			if r.code != 0 {
				return store.Applied{}, &store.Error{Code: r.code, Detail: r.text}
			}
			a := store.Applied{Done: r.met, Values: make([]store.Value, len(writes))}
			if len(writes) == 1 {
				a.Values[0] = store.Whole(r.value)
			}
			return a, nil
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return store.Applied{}, store.Errorf(store.RequestTimeout,
				"the master of %s has not answered", c.cfg.Name)
		case <-c.ctx.Done():
			timer.Stop()
			return store.Applied{}, store.Errorf(store.ShuttingDown, "the clone of %s is closed",
				c.cfg.Name)
		}
	}
}

func (c *Clone) publish(name string, args ...any) error {
	ctx, cancel := context.WithTimeout(c.ctx, publishWait)
	defer cancel()
	return c.cfg.Bus.Publish(ctx, MasterTopic(c.cfg.Name), name, args...)
}

// watchdog asks for what has not come, and tells the master that the clone follows it.
func (c *Clone) watchdog() {
	ticker := time.NewTicker(askAgain / 2)
	defer ticker.Stop()
	for {
		c.mu.Lock()
		ask := !c.synced || c.store.Stats().Seq < c.before
		c.mu.Unlock()
		if ask {
			c.ask()
		}
		c.tell()
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// ask asks the master for what is behind the last change, at most once in askAgain.
func (c *Clone) ask() {
	c.mu.Lock()
	if time.Since(c.asked) < askAgain {
		c.mu.Unlock()
		return
	}
	c.asked = time.Now()
	c.healed++
	epoch := c.epoch
	c.mu.Unlock()
	if err := c.publish("zmtpd_store_sync", c.topic, epoch, c.store.Stats().Seq); err != nil &&
		c.ctx.Err() == nil {
		c.cfg.Logger.Debug("the master was not asked", "store", c.cfg.Name, "err", err)
	}
}

// tell answers a sign of life of the master, which counts its clones.
func (c *Clone) tell() {
	c.mu.Lock()
	again := c.signs == c.told
	c.told = c.signs
	behind := c.lacks
	c.mu.Unlock()
	if again {
		return
	}
	err := c.publish("zmtpd_store_following", c.topic, behind)
	if err != nil && c.ctx.Err() == nil {
		c.cfg.Logger.Debug("the master was not told of its clone", "store", c.cfg.Name, "err", err)
	}
}

// handle takes an event of the bus. It must not wait for the broker.
func (c *Clone) handle(_ context.Context, e cluster.Event) {
	if c.ctx.Err() != nil || e.Topic != c.topic && e.Topic != ClonesTopic(c.cfg.Name) {
		return
	}
	var err error
	switch string(e.Name) {
	case "zmtpd_store_alive":
		err = c.alive(e)
	case "zmtpd_store_changes":
		err = c.changes(e)
	case "zmtpd_store_snapshot":
		err = c.takePart(e)
	case "zmtpd_store_reply":
		err = c.answered(e)
	}
	if err != nil {
		c.cfg.Logger.Warn("an event for the clone is not as it should be; it is left out", "store",
			c.cfg.Name, "event", string(e.Name), "node", e.Node, "err", err)
	}
}

func (c *Clone) alive(e cluster.Event) error {
	var a struct {
		Epoch   uint64
		Started time.Time
		Seq     uint64
		Who     string
	}
	if err := e.DecodeArgs(&a); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.master = time.Now(), a.Who
	c.signs++
	c.lacks = a.Seq
	if a.Epoch != c.epoch {
		c.synced, c.known, c.before = false, 0, 0 // the watchdog asks
		return nil
	}
	c.known, c.before = a.Seq, c.known
	c.lacks -= min(c.lacks, c.store.Stats().Seq)
	return nil
}

func (c *Clone) changes(e cluster.Event) error {
	parts, err := arguments(e, 2)
	if err != nil {
		return err
	}
	epoch, ok := parts[0].Count()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || !c.synced || epoch != c.epoch {
		return nil
	}
	var list []store.Change
	edits := map[uint64][]store.Edit{}
	for part := range parts[1].Elements() {
		change, some, edited, err := decodeChange(part)
		if err != nil {
			return err
		}
		if list = append(list, change); edited {
			edits[change.Seq] = some
		}
	}
	if len(list) == 0 {
		return nil
	}
	c.heard = time.Now()
	err = c.store.Replay(list, edits)
	switch {
	case errors.Is(err, store.StaleData): // a gap: the watchdog asks for what is missing
		c.before = max(c.before, list[len(list)-1].Seq)
		c.known = max(c.known, c.before)
	case err != nil: // the copy is not what the master has: the watchdog asks for all of it
		c.synced, c.epoch = false, 0
		return err
	}
	return nil
}

// takePart takes a part of a snapshot.
func (c *Clone) takePart(e cluster.Event) error {
	parts, err := arguments(e, 5)
	if err != nil {
		return err
	}
	epoch, _ := parts[0].Count()
	seq, _ := parts[1].Count()
	number, _ := parts[2].Count()
	last, ok := parts[3].Bool()
	if !ok || e.Topic != c.topic {
		return store.Errorf(store.InvalidData, "this is no part of a snapshot")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if number == 0 {
		c.parts, c.next, c.of, c.size = nil, 0, [2]uint64{epoch, seq}, 0
	}
	if number != c.next || c.of != [2]uint64{epoch, seq} {
		c.parts = nil
		return nil // a part was lost: the watchdog asks again
	}
	c.next++
	c.asked = time.Now() // the next part is on its way
	for part := range parts[4].Elements() {
		entry, err := decodeEntry(part)
		if err != nil {
			return err
		}
		c.parts = append(c.parts, entry)
	}
	if c.size += int64(len(e.Args)); c.size > c.cfg.MaxBytes {
		c.parts, c.next = nil, 0
		return store.Errorf(store.BackendFailure, "the store has more than %d bytes",
			c.cfg.MaxBytes)
	}
	if !last {
		return nil
	}
	list := c.parts
	c.parts, c.next = nil, 0
	if err := c.store.Reset(list, seq); err != nil {
		return err
	}
	c.synced, c.epoch, c.heard, c.before = true, epoch, time.Now(), 0
	c.snapshot++
	c.known = max(c.known, seq)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	return nil
}

func (c *Clone) answered(e cluster.Event) error {
	parts, err := arguments(e, 5)
	if err != nil {
		return err
	}
	id, _ := parts[0].Count()
	code, _ := parts[1].Count()
	met, ok := parts[2].Bool()
	text, isText := parts[4].Text()
	if !ok || !isText || code > 255 {
		return store.Errorf(store.InvalidData, "this is no reply")
	}
	r := reply{code: store.Code(code), met: met, text: string(text)}
	if parts[3].Kind() != event.None {
		r.value = parts[3]
	}
	c.mu.Lock()
	answer := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if answer != nil {
		answer <- r
	}
	return nil
}
