package pipeline

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// OutletConfig sets the limits of an Outlet and what it does when they are reached.
type OutletConfig struct {
	// Name identifies the sink in the log and in Stats.
	Name string
	// MaxBytes bounds the window: the batches in memory that the sink has not finished. A single
	// batch may exceed it. Default 32 MiB.
	MaxBytes int64
	// Spool takes batches when the window is full, until the sink has caught up. Default: there is
	// no spool, and the nodes wait.
	Spool *spool.Config
	// DropOldest drops the oldest batches of a full spool to make room, counted as ReasonSpoolFull.
	// It needs Spool. Default: the nodes wait.
	DropOldest bool
	// SpoolFirst puts every batch into the spool before it counts as received, and the sink gets it
	// from there: kill -9 loses no counted batch. It needs Spool, whose SyncInterval and SyncEach
	// determine what a power failure loses. Default: only what the window cannot take is spooled.
	SpoolFirst bool
	// Gone is called once when the sink reports ErrGone. It must not block. Queued batches stay in
	// the spool; without one, Close drops and counts them. Batches that come later go to the spool
	// too, and are dropped at once, for ReasonGivenUp, when it has no room. Default: not called.
	Gone func(error)
	// Memory is the budget for the outlet's own memory: batches read from the spool, and copies of
	// small batches. Batches of a socket count for the socket. Default: no budget.
	Memory *memory.Budget
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Outlet is the bounded queue in front of a [Sink]. It keeps a slow sink from delaying others.
//
// It sends the batches of one source and log path one after the other, in order, and those of
// different flows concurrently. A batch stays in the window, with its memory, until the sink is
// done with it. When the window is full and there is a spool, the outlet copies the window there,
// so that kill -9 loses nothing of it, and puts new batches behind it. It then refills the window
// from the spool until the spool is empty. See spill.go.
//
// Lock order: putMu, mu. The outlet calls the sink without holding either; the sink may hold its
// own locks when it calls back (Entry.Done).
type Outlet struct {
	// Static after NewOutlet.
	name       string
	sink       Sink
	maxBytes   int64
	spool      *spool.Spool // nil for none
	spoolBytes int64        // most that it holds
	spoolFirst bool
	dropOldest bool
	onGone     func(error) // may be nil
	log        *slog.Logger
	ctx        context.Context    // of Sink.Send; ends when Close gives up
	giveUp     context.CancelFunc // of ctx
	memory     *memory.Holder     // nil without a budget
	acct       *Ledger            // has its own lock
	recovered  Counts             // in the spool when it was opened

	writers sync.WaitGroup // goroutines of flows
	spooler sync.WaitGroup // the goroutine of the spool

	suspect sync.Mutex // held while a suspect record is delivered: only one at a time

	putMu sync.Mutex // one put at a time
	head  []byte     // guarded by putMu; of a spool record

	mu       sync.Mutex
	changed  sync.Cond           // of what mu guards, or of ctx
	flows    map[flowKey][]*item // guarded by mu; those that a goroutine works on
	window   list.List           // guarded by mu; of *item, in the order in which they came
	bytes    int64               // guarded by mu; of the items in window
	spilling bool                // guarded by mu; what comes goes to the spool
	putting  bool                // guarded by mu; something is just being put there
	kept     arena               // guarded by mu; of what may have to go to the spool
	acks     []spool.Seq         // guarded by mu; to be acknowledged
	closing  bool                // guarded by mu; nothing more is taken out of the spool
	closed   bool                // guarded by mu; the spool closes when acks are written
	gone     error               // guarded by mu; why the sink can take nothing more, nil if it can
	waiting  error               // guarded by mu; why the nodes wait, nil if they do not
	waits    phase               // guarded by mu; of waiting
	spills   phase               // guarded by mu; of spilling
}

// flowKey identifies a flow: batches whose order is kept. The source is the first node id of a
// connection. A node thus keeps its order when it connects again, and so does a sender that speaks
// for several nodes, such as a replay.
type flowKey struct{ source, path string }

// item is a batch in the window.
type item struct {
	Entry
	source string
	key    LogKey
	from   *Sender // nil until it is counted
	log    *LogAccount
	fed    bool // came from the spool

	// Guarded by Outlet.mu.
	place *list.Element // nil when the sink is done with it
	raw   []byte        // of Entry.Batch; only the spool needs it
	// of Node and raw, and of Batch unless that was taken; nil when nobody needs it any more
	memory  *shared
	size    int64     // of memory, as far as it is this one's
	taken   bool      // the sink has no need of it
	seq     spool.Seq // in the spool, if spooled
	spooled bool
	givenUp error // by the sink
}

func (it *item) counts() Counts { return Counts{1, uint64(it.Batch.NumRecords)} }

// NewOutlet starts a queue in front of sink and owns the sink from then on: Close closes it.
// Batches that an earlier process left in the spool go first. On error the caller keeps the sink.
func NewOutlet(sink Sink, cfg OutletConfig) (*Outlet, error) {
	o := &Outlet{
		name:       cfg.Name,
		sink:       sink,
		maxBytes:   cfg.MaxBytes,
		spoolFirst: cfg.SpoolFirst,
		dropOldest: cfg.DropOldest,
		onGone:     cfg.Gone,
		log:        cfg.Logger,
		memory:     cfg.Memory.NewHolder("sinks", 0, nil),
		flows:      map[flowKey][]*item{},
	}
	o.changed.L = &o.mu
	if o.maxBytes <= 0 {
		o.maxBytes = 32 << 20
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	o.log = o.log.With("sink", o.name)
	o.acct = NewLedger(o.log)
	if (o.dropOldest || o.spoolFirst) && cfg.Spool == nil {
		return nil, fmt.Errorf("sink %s: DropOldest and SpoolFirst need a spool: give it one",
			o.name)
	}
	o.ctx, o.giveUp = context.WithCancel(context.Background())
	if cfg.Spool != nil {
		if err := o.openSpool(*cfg.Spool); err != nil {
			o.giveUp()
			return nil, fmt.Errorf("sink %s: %w", o.name, err)
		}
	}
	context.AfterFunc(o.ctx, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.changed.Broadcast()
	})
	return o, nil
}

// Name returns the name in the configuration.
func (o *Outlet) Name() string { return o.name }

// put queues a batch of the log with that key. node and raw, the whole batch, lie in memory, which
// put retains as long as needed. It waits while there is no room; after giveUp it drops the batch.
// The batch counts as received at once, or with SpoolFirst as soon as it is in the spool.
func (o *Outlet) put(source string, key LogKey, node, raw []byte, b zeek.Batch, memory *shared) {
	it := o.newItem(source, key, node, raw, b, memory)
	if !o.spoolFirst {
		o.admit(it)
	}
	o.putMu.Lock()
	defer o.putMu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	var backoff await.Backoff
	for {
		err := o.gone
		switch {
		case o.spilling:
			if err = o.putSpool(it); err == nil {
				o.admit(it)
				o.goOn()
				return
			}
		case o.gone != nil && o.spool == nil:
		case o.gone == nil && (o.window.Len() == 0 || o.bytes+it.size <= o.maxBytes):
			memory.retain()
			o.add(it)
			o.goOn()
			return
		case o.spool != nil:
			if err = o.spill(); err == nil {
				continue
			}
		default:
			err = errors.New("its queue is full")
		}
		var why *DropError
		switch {
		case errors.Is(err, spool.ErrTooLarge):
			why = Drop(ReasonTooLarge,
				"a batch of %d bytes has no place in memory now and never in the spool of %d "+
					"bytes: make the spool larger than the largest message: %w",
				len(raw), o.spoolBytes, err)
		case o.gone != nil:
			why = Drop(ReasonGivenUp, "the sink takes nothing more: %w", o.gone)
			if err != o.gone {
				why = Drop(ReasonGivenUp, "the sink takes nothing more (%w), and %w", o.gone, err)
			}
		case o.ctx.Err() != nil:
			why = Drop(ReasonGivenUp, "the logger ended while the sink did not take it: %w", err)
		}
		if why != nil {
			o.admit(it)
			o.dropItem(it, why)
			return
		}
		if o.waiting == nil {
			o.waiting = err
			if o.waits.begin(time.Now()) {
				o.log.Warn("the nodes wait for a sink", "err", err)
			}
		}
		o.flush()
		if o.spool != nil {
			o.waitFor(backoff.Next())
		} else {
			o.changed.Wait()
		}
	}
}

// admit counts an item as received, unless it is.
func (o *Outlet) admit(it *item) {
	if it.from == nil {
		it.from, it.log = o.acct.admit(it.Node, it.key, it.counts())
	}
}

// goOn notes that nobody waits. The caller holds mu.
func (o *Outlet) goOn() {
	if o.waiting != nil {
		o.waiting = nil
		if took := o.waits.end(time.Now()); took >= newsAfter {
			o.log.Info("the nodes do not wait for the sink any more", "took", took)
		}
	}
}

// phase is a condition that may begin and end many times a second, such as a full queue under load.
// It decides which of its changes are logged.
type phase struct{ began, ended time.Time }

// newsAfter is how long a phase must have been over before its next beginning is logged, and how
// long it must have lasted before its end is.
const newsAfter = 10 * time.Second

// begin reports whether the beginning is news.
func (p *phase) begin(now time.Time) bool {
	p.began = now
	return now.Sub(p.ended) >= newsAfter
}

// end returns how long the phase lasted.
func (p *phase) end(now time.Time) time.Duration {
	p.ended = now
	return now.Sub(p.began)
}

// flush makes the sink deliver what it holds back.
func (o *Outlet) flush() {
	if f, ok := o.sink.(Flusher); ok {
		f.Flush()
	}
}

// waitFor waits for a change, but not longer than d. The caller holds mu.
func (o *Outlet) waitFor(d time.Duration) {
	t := time.AfterFunc(d, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.changed.Broadcast()
	})
	defer t.Stop()
	o.changed.Wait()
}

// newItem makes an item of a batch. It does not count as a user of memory yet.
func (o *Outlet) newItem(source string, key LogKey, node, raw []byte, b zeek.Batch,
	memory *shared) *item {
	it := &item{source: source, key: key, raw: raw, memory: memory,
		size: int64(len(node) + len(raw))}
	it.Entry = Entry{Node: node, Batch: b, taken: func() { o.take(it) },
		done: func(refused []Refusal, err error) { o.finish(it, refused, err) }}
	return it
}

// add puts an item into the window and its flow. The caller holds mu.
func (o *Outlet) add(it *item) {
	it.place = o.window.PushBack(it)
	o.bytes += it.size
	key := flowKey{it.source, it.key.Path}
	flow, running := o.flows[key]
	o.flows[key] = append(flow, it)
	if !running {
		o.writers.Go(func() { o.write(key) })
	}
}

// write gives the batches of a flow to the sink until there are no more.
func (o *Outlet) write(key flowKey) {
	var items []*item
	for {
		o.mu.Lock()
		clear(items)
		items, o.flows[key] = o.flows[key], items[:0]
		if len(items) == 0 {
			delete(o.flows, key)
		}
		hurry := o.waiting != nil || o.spilling && o.bytes >= o.maxBytes
		o.mu.Unlock()
		if hurry {
			o.flush() // what it was sent before
		}
		if len(items) == 0 {
			return
		}
		for _, it := range items {
			o.send(it)
		}
	}
}

// finish is what the sink calls when it is done with an item.
func (o *Outlet) finish(it *item, refused []Refusal, err error) {
	o.mu.Lock()
	if err != nil || it.place == nil {
		it.givenUp = err // Close deals with it, or has done so
		first := o.gone == nil && errors.Is(err, ErrGone)
		if first {
			o.gone = err
			o.changed.Broadcast()
		}
		o.mu.Unlock()
		if first && o.onGone != nil {
			o.onGone(err)
		}
		return
	}
	o.remove(it)
	o.mu.Unlock()

	rest := it.counts()
	for _, r := range refused {
		n := Counts{0, min(r.Records, rest.Records)}
		if n.Records == rest.Records {
			n.Messages = rest.Messages // nothing of it is left
		}
		rest.Sub(n)
		if o.acct.Drop(it.from, it.log, n, r.Why.Reason) {
			o.acct.Warn(r.Why, it.Node, it.key.Path)
		}
	}
	o.acct.Wrote(it.log, Shares{{it.from, rest}}, 0)
	if it.memory != nil {
		it.memory.release()
	}
}

// remove takes an item out of the window. The caller holds mu.
func (o *Outlet) remove(it *item) {
	o.window.Remove(it.place)
	it.place = nil
	o.bytes -= it.size
	if it.spooled {
		o.acks = append(o.acks, it.seq)
	}
	o.changed.Broadcast()
}

// dropItem counts an item that is lost, and logs it if it is the first.
func (o *Outlet) dropItem(it *item, e *DropError) {
	if o.acct.Drop(it.from, it.log, it.counts(), e.Reason) {
		node := it.Node
		if it.memory == nil {
			node = []byte(it.source) // nearly always the same
		}
		o.acct.Warn(e, node, it.key.Path)
	}
}

// OutletStats has the accounts of an Outlet. Written is what the sink has delivered; Queued is in
// memory or in the spool.
type OutletStats struct {
	Accounts
	Name string
	// Recovered is the part of Received that an earlier process had left in the spool.
	Recovered Counts
	// WindowBytes is the size of the batches in the window.
	WindowBytes int64
	// Spooling reports whether batches go through the spool.
	Spooling bool
	// Waiting is the reason why nodes wait for this sink, nil if they do not.
	Waiting error
	// Spool has the statistics of the spool, nil if there is none.
	Spool *spool.Stats
}

// Stats returns what has happened so far.
func (o *Outlet) Stats() OutletStats {
	o.mu.Lock()
	st := OutletStats{Name: o.name, Recovered: o.recovered, WindowBytes: o.bytes,
		Spooling: o.spilling, Waiting: o.waiting}
	o.mu.Unlock()
	if o.spool != nil {
		s := o.spool.Stats()
		st.Spool = &s
	}
	st.Accounts = o.acct.Accounts()
	return st
}
