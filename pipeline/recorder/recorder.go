// Package recorder appends messages to a recording in the background. Senders never wait for it.
package recorder

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
)

const (
	// maxQueue bounds the messages that wait for the disk, in bytes. They may pin four times as
	// much memory; see zmtp.Batch.Keep.
	maxQueue = 64 << 20
	// blockSize is the approximate size of one write, in bytes.
	blockSize = 256 << 10
	// flushInterval is the longest time that a message waits for others before it is written, and
	// the interval at which a failed write is tried again.
	flushInterval = time.Second
	// grace is how long Close waits for the disk.
	grace = 5 * time.Second
	// quiet is the time after the last loss from which the queue counts as keeping up again.
	quiet = 5 * time.Second
)

// Reason says why a message is missing in the file.
type Reason int

const (
	QueueFull Reason = iota // the disk does not keep up
	Disk                    // the file cannot be written, most likely because the disk is full
	SizeLimit               // the file has reached its size limit
	TooLarge                // a recording cannot hold the message
	Closed                  // the message still waited when Close gave up
	numReasons
)

var reasonNames = [numReasons]string{"queue_full", "disk", "size_limit", "too_large", "closed"}

// String returns the reason as a metric label.
func (r Reason) String() string { return reasonNames[r] }

// Recorder appends messages to a recording. Take puts batches into a bounded queue, and one
// goroutine writes them. Messages that find no room in the queue are lost and counted.
type Recorder struct {
	// Not changed after Open.
	name    string
	limit   int64 // of the file, in bytes; 0 for none
	log     *slog.Logger
	wake    chan struct{} // has room for one signal: a block is in the queue
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when no more is written

	written atomic.Uint64 // messages
	size    atomic.Int64  // of the file, in bytes
	queued  atomic.Int64  // bytes of messages in the queue
	waiting atomic.Int64  // messages that are neither written nor lost
	dropped [numReasons]atomic.Uint64
	refuse  atomic.Int32 // the Reason for which no more messages are taken, or taking
	failing atomic.Bool  // the last attempt to write failed
	// start of the current loss, in ns since 1970; 0 if there is none
	full atomic.Int64

	mu    sync.Mutex
	queue []*zmtp.Batch // guarded by mu

	// Used only by the goroutine that writes.
	file   *recording.File
	block  []byte // messages for the next write
	inside int    // number of messages in block
	parts  [][]byte
}

// taking is the value of Recorder.refuse while messages are taken.
const taking = -1

// Open opens a recording for appending, up to limit bytes; 0 means no limit. It creates a missing
// file, readable by its owner only, and cuts off an incomplete message at the end. The caller must
// call Close.
func Open(name string, limit int64, log *slog.Logger) (*Recorder, error) {
	file, cut, err := recording.OpenFile(name)
	if err != nil {
		return nil, err
	}
	log = log.With("file", name)
	if cut > 0 {
		log.Warn("the recording ended within a message; its beginning was cut off", "bytes", cut)
	}
	r := &Recorder{
		name: name, limit: limit, log: log, file: file,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	r.refuse.Store(taking)
	r.size.Store(file.Size())
	go r.run()
	return r, nil
}

// Take queues the messages of runs for the file. It never blocks. The caller may release b
// afterwards: the queue has its own reference.
func (r *Recorder) Take(b *zmtp.Batch, runs []zmtp.Run) {
	messages, size := 0, int64(0)
	for _, run := range runs {
		messages += run.To - run.From
		size += sizeOf(b, run.From, run.To)
	}
	if reason := r.refuse.Load(); reason != taking {
		r.dropped[reason].Add(uint64(messages))
		return
	}
	before := r.queued.Add(size) - size
	if before > 0 && before+size > maxQueue {
		r.queued.Add(-size)
		r.lose(messages)
		return
	}
	r.waiting.Add(int64(messages))
	kept := b.Keep(runs)
	r.mu.Lock()
	r.queue = append(r.queue, kept)
	r.mu.Unlock()
	if before < blockSize && before+size >= blockSize { // less waits for the next tick
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// sizeOf estimates the size of messages in the file, in bytes.
func sizeOf(b *zmtp.Batch, from, to int) int64 {
	parts, bytes := b.Counts(from, to)
	return int64(4*(to-from) + 4*parts + bytes)
}

// lose counts messages for which the queue has no room.
func (r *Recorder) lose(messages int) {
	if r.failing.Load() {
		r.dropped[Disk].Add(uint64(messages))
		return
	}
	r.dropped[QueueFull].Add(uint64(messages))
	if r.full.CompareAndSwap(0, time.Now().UnixNano()) {
		r.log.Warn("the disk is too slow; messages are missing in the recording",
			"queued", r.queued.Load())
	}
}

// run writes the queue until Close.
func (r *Recorder) run() {
	defer close(r.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	lost := lossWatch{r: r}
	for {
		flush, end := false, false
		select {
		case <-r.wake:
		case <-tick.C:
			flush = true
		case <-r.closing:
			end = true
		}
		r.drain()
		if flush || end {
			r.write()
			lost.look()
		}
		if end {
			if err := r.file.Close(); err != nil {
				r.log.Error("the recording cannot be closed", "err", err)
			}
			return
		}
	}
}

// drain writes the queue, except for a last incomplete block.
func (r *Recorder) drain() {
	for {
		r.mu.Lock()
		all := r.queue
		r.queue = nil
		r.mu.Unlock()
		if len(all) == 0 {
			return
		}
		for _, b := range all {
			for m := range b.Messages() {
				r.add(m)
			}
			r.queued.Add(-sizeOf(b, 0, b.Len()))
			b.Release()
			if len(r.block) >= blockSize {
				r.write()
			}
		}
	}
}

// add appends a message to the block.
func (r *Recorder) add(m zmtp.Message) {
	if reason := r.refuse.Load(); reason != taking {
		r.drop(Reason(reason), 1)
		return
	}
	before := len(r.block)
	var err error
	if m.NumParts() > recording.MaxParts {
		r.drop(TooLarge, 1)
		return
	}
	r.parts = m.AppendParts(r.parts[:0])
	if r.block, err = recording.AppendMessage(r.block, r.parts...); err != nil {
		r.drop(TooLarge, 1)
		return
	}
	if r.limit > 0 && r.file.Size()+int64(len(r.block)) > r.limit {
		r.block = r.block[:before]
		r.drop(SizeLimit, 1)
		r.refuse.Store(int32(SizeLimit))
		r.log.Warn("the recording has reached its size limit; nothing more is written to it",
			"limit", r.limit)
		return
	}
	r.inside++
}

// drop counts messages of the queue as lost.
func (r *Recorder) drop(reason Reason, n int) {
	r.dropped[reason].Add(uint64(n))
	r.waiting.Add(-int64(n))
}

// write writes the block. It retries until it succeeds; after Close it tries once.
func (r *Recorder) write() {
	if r.inside == 0 {
		return
	}
	since, before := time.Now(), r.dropped[Disk].Load()
	for {
		err := r.file.Append(r.block)
		if err == nil {
			break
		}
		if !r.failing.Swap(true) {
			r.log.Error("the recording cannot be written; trying again every second", "err", err)
		}
		retry := time.NewTimer(flushInterval)
		select {
		case <-retry.C:
			continue
		case <-r.closing:
			retry.Stop()
		}
		r.drop(Disk, r.inside)
		r.refuse.Store(int32(Disk))
		r.block, r.inside = r.block[:0], 0
		return
	}
	if r.failing.Swap(false) {
		r.log.Warn("the recording is written again", "dropped", r.dropped[Disk].Load()-before,
			"after", time.Since(since).Round(time.Millisecond))
	}
	r.written.Add(uint64(r.inside))
	r.waiting.Add(-int64(r.inside))
	r.size.Store(r.file.Size())
	r.block, r.inside = r.block[:0], 0
	if cap(r.block) > 4*blockSize {
		r.block = nil // it has grown for a large message
	}
}

// lossWatch logs the end of a loss. Only the goroutine that writes uses it.
type lossWatch struct {
	r     *Recorder
	total uint64 // number of lost messages at the end of the previous loss
	last  uint64 // number of lost messages at the last look
	since time.Time
}

func (w *lossWatch) look() {
	full, now := w.r.full.Load(), time.Now()
	lost := w.r.dropped[QueueFull].Load()
	if lost != w.last || w.since.IsZero() {
		w.last, w.since = lost, now
	}
	if full == 0 || now.Sub(w.since) < quiet {
		return
	}
	w.r.log.Warn("the disk keeps up with the messages again", "dropped", lost-w.total,
		"after", now.Sub(time.Unix(0, full)).Round(time.Millisecond))
	w.total = lost
	w.r.full.Store(0)
}

// Close writes the queue and closes the file. If the disk hangs, it returns after 5 s and counts
// the rest as lost. Take must not be called afterwards.
func (r *Recorder) Close() {
	close(r.closing)
	limit := time.NewTimer(grace)
	defer limit.Stop()
	select {
	case <-r.done:
	case <-limit.C:
		lost := r.waiting.Load()
		r.dropped[Closed].Add(uint64(lost))
		r.log.Error("the disk has not taken the end of the recording in time", "dropped", lost)
	}
}

// Stats are the counters of a Recorder.
type Stats struct {
	Written     uint64            // messages in the file
	Size        int64             // bytes of the file
	QueuedBytes int64             // bytes of messages that wait for the disk
	Dropped     map[Reason]uint64 // messages missing in the file; every reason has an entry
}

// Stats returns a snapshot of the counters.
func (r *Recorder) Stats() Stats {
	st := Stats{Written: r.written.Load(), Size: r.size.Load(), QueuedBytes: r.queued.Load(),
		Dropped: map[Reason]uint64{}}
	for reason := range numReasons {
		st.Dropped[reason] = r.dropped[reason].Load()
	}
	return st
}

// Name returns the name of the file.
func (r *Recorder) Name() string { return r.name }
