package logwriter

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
)

// ErrClosed is returned by Write after Close.
var ErrClosed = errors.New("logwriter: the writer is closed")

// Sender is where a Writer sends its messages, a *zmtp.Push.
type Sender interface {
	// Send queues m. It waits as long as there is no room, until ctx ends, but only then: with room
	// it takes m though ctx has ended. An error while ctx goes on says that nothing more can be
	// sent. It keeps m's memory, which is never written to again.
	Send(ctx context.Context, m zmtp.Message) error
}

// Writer makes log batches of records of type T and sends them. All methods are for concurrent use.
//
// The way of a record:
//
//  1. Write copies the record to where the columns are bound, and the columns append its values to
//     the batch under construction. Nothing refers to the record afterwards.
//  2. A batch that is full, or whose first record has waited for the flush interval, is sealed into
//     a message, and another batch begins.
//  3. The goroutine of the Writer sends the message, or a caller of Write that finds no room does.
//     One of them has the turn at a time.
//
// So there are at most two batches, one that waits to be sent and one that is being built. Records
// keep the order of the calls of Write.
type Writer[T any] struct {
	// Static after New.
	cfg     Config
	push    Sender
	schema  *zeek.Schema
	columns columns         // bound to record
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended
	full    chan struct{} // has room for one signal: something should not wait for the timer
	turn    chan struct{} // has room for one value; the goroutine that put it there has the turn

	// Only the goroutine that has the turn uses these.
	unsent        zmtp.Message
	unsentRecords int

	// Lock order: turn, mu.
	mu     sync.Mutex
	record *T // guarded by mu, as are the rest
	batch  *batch
	room   chan struct{} // not nil while the batch is full; closed when that may have changed
	timer  *time.Timer   // runs while the batch has records
	closed bool
	err    error // why nothing more can be sent
	stats  Stats
}

// Stats are the numbers of a Writer since New. Written less Sent is what waits; after Close it is
// what was lost, which is nothing if Close returned nil.
type Stats struct {
	Written uint64 // records that Write has taken
	Sent    uint64 // of these, records that the Sender has taken
	Batches uint64 // messages that the Sender has taken
}

// New returns a Writer of records of type T, a struct with tags as the package describes them,
// which sends to push. It has a goroutine until Close. The error says which field cannot be logged
// and why.
func New[T any](push Sender, cfg Config) (*Writer[T], error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("logwriter: %w", err)
	}
	w := &Writer[T]{
		cfg: cfg, push: push, record: new(T),
		done: make(chan struct{}), full: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		timer: time.NewTimer(cfg.FlushInterval),
	}
	w.timer.Stop()
	var fields []zeek.Field
	if fields, w.columns, err = compile(reflect.ValueOf(w.record).Elem()); err != nil {
		return nil, fmt.Errorf("logwriter: %w", err)
	}
	w.schema = cfg.schema(fields)
	if w.batch, err = newBatch(cfg.Node, w.schema, cfg.BatchBytes); err != nil {
		return nil, fmt.Errorf("logwriter: %w", err)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.run()
	return w, nil
}

// Schema returns what the batches say about their records. It must not be changed.
func (w *Writer[T]) Schema() *zeek.Schema { return w.schema }

// Write takes a record, or returns an error and has not taken it. It keeps nothing that the record
// refers to. It does not wait while there is room in the batch, also if ctx has ended; a ctx that
// has ended thus makes it a Write that never waits. When the batch is full and those before it
// cannot be sent yet, because the peers take no more or there are none, it waits for that until ctx
// ends.
//
// A record that cannot be sent is refused with an error that names the column; the Writer goes on.
// After Close the error is ErrClosed; after the Sender was closed it is that of the Sender.
func (w *Writer[T]) Write(ctx context.Context, record T) error {
	var waited error
	for {
		room, err := w.take(&record)
		if room == nil {
			return err
		}
		if waited != nil {
			return waited
		}
		waited = w.makeRoom(ctx, room)
	}
}

// take encodes a record into the batch. If there is no room it returns a channel that is closed
// when it should be tried again.
func (w *Writer[T]) take(record *T) (room <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, ErrClosed
	case w.err != nil:
		return nil, w.err
	case w.room != nil:
		return w.room, nil
	}
	b := w.batch
	start := len(b.buf)
	*w.record = *record
	b.buf, err = w.columns.append(b.buf)
	var zero T
	*w.record = zero // the record's memory is the caller's
	if size := len(b.buf) - start; err == nil && len(b.head)+size > maxMessage {
		err = errTooLarge
	}
	switch {
	case err != nil:
		b.truncate(start)
		if errors.Is(err, errTooLarge) {
			err = fmt.Errorf("%w, which may have at most %d bytes", err, maxMessage)
		}
		return nil, fmt.Errorf("logwriter: %w", err)
	case len(b.buf) > w.cfg.BatchBytes && b.records > 0:
		b.truncate(start)
		w.end()
		return w.room, nil
	}
	b.records++
	w.stats.Written++
	if b.records == w.cfg.BatchSize || len(b.buf) >= w.cfg.BatchBytes {
		w.end()
	} else if b.records == 1 {
		w.timer.Reset(w.cfg.FlushInterval)
	}
	return nil, nil
}

// end says that the batch is full. The caller holds mu.
func (w *Writer[T]) end() {
	w.room = make(chan struct{})
	w.wake()
}

// tryAgain makes callers that wait for room look again. The caller holds mu.
func (w *Writer[T]) tryAgain() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// wake lets the goroutine send what should not wait.
func (w *Writer[T]) wake() {
	select {
	case w.full <- struct{}{}:
	default:
	}
}

// run sends what is full or has waited long enough.
func (w *Writer[T]) run() {
	defer close(w.done)
	for {
		// An error is either that w.ctx has ended, or kept in w.err.
		select {
		case <-w.full:
			_ = w.send(w.ctx, true)
		case <-w.timer.C:
			_ = w.send(w.ctx, false)
		case <-w.ctx.Done():
			return
		}
	}
}

// takeTurn waits for the turn until ctx ends.
func (w *Writer[T]) takeTurn(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// makeRoom returns when the batch may have room. If nobody else does, it sends what could not be
// sent before, until ctx ends, and then leaves the batch to the goroutine.
func (w *Writer[T]) makeRoom(ctx context.Context, room <-chan struct{}) error {
	select {
	case <-room:
		return nil
	case w.turn <- struct{}{}:
	default:
		select {
		case <-room:
			return nil
		case w.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-w.turn }()
	if w.unsentRecords > 0 {
		// Close ends this, too: it has a context of its own.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(w.ctx, cancel)()
		if err := w.deliver(ctx); err != nil {
			return err
		}
	}
	w.seal(true) // which end has told the goroutine of
	return nil
}

// send sends what could not be sent before, and then the batch, with onlyFull if it is full. It
// waits until ctx ends. After an error what was not sent is still there.
func (w *Writer[T]) send(ctx context.Context, onlyFull bool) error {
	if err := w.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-w.turn }()
	if err := w.deliver(ctx); err != nil {
		return err
	}
	w.seal(onlyFull)
	return w.deliver(ctx)
}

// seal makes a message of the batch, with onlyFull if it is full, and begins another. The caller
// has the turn, and has sent the last message.
func (w *Writer[T]) seal(onlyFull bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.batch.records > 0 && (w.room != nil || !onlyFull) {
		w.unsent, w.unsentRecords = w.batch.seal()
		w.timer.Stop()
		w.tryAgain()
	}
}

// deliver sends w.unsent. The caller has the turn.
func (w *Writer[T]) deliver(ctx context.Context) error {
	if w.unsentRecords == 0 {
		return nil
	}
	if err := w.push.Send(ctx, w.unsent); err != nil {
		if ctx.Err() != nil {
			w.wake() // the goroutine has more patience
			return err
		}
		err = fmt.Errorf("logwriter: %w", err)
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
		return err
	}
	w.mu.Lock()
	w.stats.Sent += uint64(w.unsentRecords)
	w.stats.Batches++
	w.mu.Unlock()
	w.unsent, w.unsentRecords = zmtp.Message{}, 0
	return nil
}

// Flush returns when the Sender has taken all records written before. It waits until ctx ends; what
// is left then goes on waiting to be sent. That the Sender has taken them does not mean that they
// have arrived.
func (w *Writer[T]) Flush(ctx context.Context) error { return w.send(ctx, false) }

// Close ends the Writer: it takes no more records, and those written before are given to the
// Sender. It waits for that until ctx ends; the error then says how many records are lost, unless
// another Close sends them. The Sender stays open: its Shutdown comes after Close.
func (w *Writer[T]) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.tryAgain()
	w.mu.Unlock()
	w.cancel()
	<-w.done
	err := w.send(ctx, false)
	if err != nil {
		s := w.Stats()
		err = fmt.Errorf("logwriter: %d records were not sent: %w", s.Written-s.Sent, err)
	}
	return err
}

// Stats returns the numbers so far.
func (w *Writer[T]) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
