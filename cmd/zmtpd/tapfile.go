package main

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
)

const (
	// tapQueue is how many bytes of messages may wait for the disk. The memory in which they are may be four times that,
	// see zmtp.Batch.Keep.
	tapQueue = 64 << 20
	// tapBlock is about how many bytes are written at once.
	tapBlock = 256 << 10
	// tapInterval is how often what waits is written, however little it is, and how often a disk that has failed is tried again.
	tapInterval = time.Second
	// tapGrace is how long the end of zmtpd waits for the disk.
	tapGrace = 5 * time.Second
	// tapQuiet is for how long nothing must be lost until a queue that was full counts as in order.
	tapQuiet = 5 * time.Second
)

// tapReason says why a message is not in the file.
type tapReason int

const (
	tapQueueFull tapReason = iota // the disk does not keep up
	tapDisk                       // the file cannot be written, most likely because the disk is full
	tapSizeLimit                  // the file is as large as it may become
	tapTooLarge                   // a recording cannot hold the message
	tapClosed                     // it waited at the end
	numTapReasons
)

var tapReasonNames = [numTapReasons]string{"queue_full", "disk", "size_limit", "too_large", "closed"}

// String returns the reason in the form used as metric label.
func (r tapReason) String() string { return tapReasonNames[r] }

// tapFile writes messages to a recording: publishers put batches into a queue, and one goroutine writes them. It never makes a publisher
// wait: what the queue does not hold is lost.
type tapFile struct {
	// Static.
	name    string
	limit   int64 // bytes of the file, 0 for none
	log     *slog.Logger
	wake    chan struct{} // room for one: a block is in the queue
	closing chan struct{} // closed by close
	done    chan struct{} // closed when nothing more is written

	written atomic.Uint64 // messages
	size    atomic.Int64  // bytes of the file
	queued  atomic.Int64  // bytes of messages in the queue
	waiting atomic.Int64  // messages that are neither written nor lost
	dropped [numTapReasons]atomic.Uint64
	refuse  atomic.Int32 // the tapReason for which nothing more is taken, or taking
	failing atomic.Bool  // the last attempt to write failed
	full    atomic.Int64 // since when the queue is now and then full, in ns since 1970; 0 if it is not

	mu    sync.Mutex
	queue []*zmtp.Batch // guarded by mu

	// Of the goroutine that writes.
	file   *recording.File
	block  []byte // messages for the next write
	inside int    // how many
	parts  [][]byte
}

// taking is the value of tapFile.refuse while messages are taken.
const taking = -1

// openTapFile opens a recording to append to it, up to limit bytes, 0 for no limit, and begins to write what take gets.
func openTapFile(name string, limit int64, log *slog.Logger) (*tapFile, error) {
	file, cut, err := recording.OpenFile(name)
	if err != nil {
		return nil, fmt.Errorf("--tap-file: %w", err)
	}
	log = log.With("file", name)
	if cut > 0 {
		log.Warn("the tap's file ended within a message, which was cut off", "bytes", cut)
	}
	t := &tapFile{
		name: name, limit: limit, log: log, file: file,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	t.refuse.Store(taking)
	t.size.Store(file.Size())
	go t.run()
	return t, nil
}

// take is forwarder.Tap.Take.
func (t *tapFile) take(b *zmtp.Batch, runs []zmtp.Run) {
	messages, size := 0, int64(0)
	for _, r := range runs {
		messages += r.To - r.From
		size += tapBytesOf(b, r.From, r.To)
	}
	if r := t.refuse.Load(); r != taking {
		t.dropped[r].Add(uint64(messages))
		return
	}
	before := t.queued.Add(size) - size
	if before > 0 && before+size > tapQueue {
		t.queued.Add(-size)
		t.lose(messages)
		return
	}
	t.waiting.Add(int64(messages))
	kept := b.Keep(runs)
	t.mu.Lock()
	t.queue = append(t.queue, kept)
	t.mu.Unlock()
	if before < tapBlock && before+size >= tapBlock { // less waits for the next tick
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// tapBytesOf is about what messages take in the file.
func tapBytesOf(b *zmtp.Batch, from, to int) int64 {
	parts, bytes := b.Counts(from, to)
	return int64(4*(to-from) + 4*parts + bytes)
}

// lose counts messages for which there was no room.
func (t *tapFile) lose(messages int) {
	if t.failing.Load() {
		t.dropped[tapDisk].Add(uint64(messages))
		return
	}
	t.dropped[tapQueueFull].Add(uint64(messages))
	if t.full.CompareAndSwap(0, time.Now().UnixNano()) {
		t.log.Warn("the tap's file is not written as fast as messages come, some are not in it", "queued", t.queued.Load())
	}
}

// run writes what is put into the queue until close.
func (t *tapFile) run() {
	defer close(t.done)
	tick := time.NewTicker(tapInterval)
	defer tick.Stop()
	lost := lossWatch{t: t}
	for {
		flush, end := false, false
		select {
		case <-t.wake:
		case <-tick.C:
			flush = true
		case <-t.closing:
			end = true
		}
		t.drain()
		if flush || end {
			t.write()
			lost.look()
		}
		if end {
			if err := t.file.Close(); err != nil {
				t.log.Error("the tap's file cannot be closed", "err", err)
			}
			return
		}
	}
}

// drain writes the queue, but for what does not fill a block.
func (t *tapFile) drain() {
	for {
		t.mu.Lock()
		all := t.queue
		t.queue = nil
		t.mu.Unlock()
		if len(all) == 0 {
			return
		}
		for _, b := range all {
			for m := range b.Messages() {
				t.add(m)
			}
			t.queued.Add(-tapBytesOf(b, 0, b.Len()))
			b.Release()
			if len(t.block) >= tapBlock {
				t.write()
			}
		}
	}
}

// add puts a message into the block.
func (t *tapFile) add(m zmtp.Message) {
	if r := t.refuse.Load(); r != taking {
		t.drop(tapReason(r), 1)
		return
	}
	before := len(t.block)
	var err error
	t.parts = m.AppendParts(t.parts[:0])
	if t.block, err = recording.AppendMessage(t.block, t.parts...); err != nil {
		t.drop(tapTooLarge, 1)
		return
	}
	if t.limit > 0 && t.file.Size()+int64(len(t.block)) > t.limit {
		t.block = t.block[:before]
		t.drop(tapSizeLimit, 1)
		t.refuse.Store(int32(tapSizeLimit))
		t.log.Warn("the tap's file is as large as it may become, nothing more is written to it", "limit", t.limit)
		return
	}
	t.inside++
}

// drop gives up messages that were in the queue.
func (t *tapFile) drop(r tapReason, n int) {
	t.dropped[r].Add(uint64(n))
	t.waiting.Add(-int64(n))
}

// write writes the block, as often as it takes. At the end it tries once.
func (t *tapFile) write() {
	if t.inside == 0 {
		return
	}
	since, before := time.Now(), t.dropped[tapDisk].Load()
	for {
		err := t.file.Append(t.block)
		if err == nil {
			break
		}
		if !t.failing.Swap(true) {
			t.log.Error("the tap's file cannot be written, it is tried again", "err", err)
		}
		retry := time.NewTimer(tapInterval)
		select {
		case <-retry.C:
			continue
		case <-t.closing:
			retry.Stop()
		}
		t.drop(tapDisk, t.inside)
		t.refuse.Store(int32(tapDisk))
		t.block, t.inside = t.block[:0], 0
		return
	}
	if t.failing.Swap(false) {
		t.log.Warn("the tap's file is written again", "dropped", t.dropped[tapDisk].Load()-before, "after", time.Since(since).Round(time.Millisecond))
	}
	t.written.Add(uint64(t.inside))
	t.waiting.Add(-int64(t.inside))
	t.size.Store(t.file.Size())
	t.block, t.inside = t.block[:0], 0
	if cap(t.block) > 4*tapBlock {
		t.block = nil // of a large message
	}
}

// lossWatch finds out when nothing is lost any more. Only the goroutine that writes uses it.
type lossWatch struct {
	t     *tapFile
	total uint64 // messages lost until the end of the last loss
	last  uint64 // messages lost
	quiet time.Time
}

func (w *lossWatch) look() {
	since, now := w.t.full.Load(), time.Now()
	lost := w.t.dropped[tapQueueFull].Load()
	if lost != w.last || w.quiet.IsZero() {
		w.last, w.quiet = lost, now
	}
	if since == 0 || now.Sub(w.quiet) < tapQuiet {
		return
	}
	w.t.log.Warn("the tap's file is written as fast as messages come again", "dropped", lost-w.total, "after", now.Sub(time.Unix(0, since)).Round(time.Millisecond))
	w.total = lost
	w.t.full.Store(0)
}

// close writes what waits and closes the file. When a disk that hangs does not let it, it gives up after tapGrace and counts what is
// lost. Nobody may call take any more.
func (t *tapFile) close() {
	close(t.closing)
	grace := time.NewTimer(tapGrace)
	defer grace.Stop()
	select {
	case <-t.done:
	case <-grace.C:
		lost := t.waiting.Load()
		t.dropped[tapClosed].Add(uint64(lost))
		t.log.Error("the tap's file could not be written to its end in time", "dropped", lost)
	}
}
