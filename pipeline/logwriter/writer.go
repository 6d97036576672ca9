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

// ErrClosed is the error of Write after Close.
var ErrClosed = errors.New("logwriter: the writer is closed")

// Sender sends the messages of a Writer. A *zmtp.Push is one.
type Sender interface {
	// Send queues m. Without room it waits until ctx ends. With room it takes m even if ctx has
	// ended. If it returns an error before ctx ends, no more messages can be sent. It keeps m's
	// memory, which the Writer never writes to again.
	Send(ctx context.Context, m zmtp.Message) error
}

// Writer makes log batches of records of type T and sends them. All methods are safe for concurrent
// use.
//
// The way of a record:
//
//  1. Write copies the record to the memory to which the columns are bound. The columns append its
//     values to the batch under construction. The Writer keeps no reference to the record.
//  2. A batch that is full, or whose first record has waited for the flush interval, is sealed into
//     a message, and the next batch begins.
//  3. The goroutine of the Writer, or a caller of Write that finds no room, sends the message. Only
//     the goroutine that has the turn sends.
//
// So there are at most two batches: one that waits to be sent and one under construction. Records
// keep the order of the calls of Write.
type Writer[T any] struct {
	// Not changed after New.
	cfg     Config
	push    Sender
	schema  *zeek.Schema
	columns columns         // bound to record
	ctx     context.Context // bound to record
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended
	full    chan struct{} // has room for one signal: do not wait for the timer
	turn    chan struct{} // has room for one value; the goroutine that put it there has the turn

	// Used only by the goroutine that has the turn.
	unsent        zmtp.Message
	unsentRecords int

	// Lock order: turn, mu.
	mu     sync.Mutex
	record *T // guarded by mu, as are the fields below
	batch  *batch
	room   chan struct{} // not nil while the batch is full; closed when it may have room
	timer  *time.Timer   // runs while the batch has records
	closed bool
	err    error // why no more records can be sent
	stats  Stats
}

// Stats are the counts of a Writer since New. Written minus Sent is the number of records that
// wait. After Close it is the number of lost records: 0 if Close returned nil.
type Stats struct {
	Written uint64 // records that Write has taken
	Sent    uint64 // of these, records that the Sender has taken
	Batches uint64 // messages that the Sender has taken
}

// New returns a Writer that sends records of type T to push. T is a struct with the tags that the
// package describes. The Writer has a goroutine until Close. The error says which field cannot be
// logged, and why.
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

// Schema returns the schema in the batches. It must not be changed.
func (w *Writer[T]) Schema() *zeek.Schema { return w.schema }

// Write takes a record, or returns an error and does not take it. It keeps nothing to which the
// record refers. It returns at once if the batch has room, even if ctx has ended: with a ctx that
// has ended Write never waits. If the batch is full and earlier ones cannot be sent yet, since the
// peers take no more or there are no peers, it waits until ctx ends.
//
// Write refuses a record that cannot be sent, with an error that names the column, and the Writer
// goes on. After Close the error is ErrClosed. After the end of the Sender it is the Sender's
// error.
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

// take encodes a record into the batch. If there is no room, it returns a channel that is closed
// when the caller should try again.
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
	*w.record = zero // so that the Writer does not refer to the caller's memory
	if size := len(b.buf) - start; err == nil && len(b.head)+size > maxMessage {
		err = errTooLarge
	}
	switch {
	case err != nil:
		b.truncate(start)
		if errors.Is(err, errTooLarge) {
			err = fmt.Errorf("%w of at most %d bytes", err, maxMessage)
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

// end marks the batch as full. The caller holds mu.
func (w *Writer[T]) end() {
	w.room = make(chan struct{})
	w.wake()
}

// tryAgain lets callers that wait for room look again. The caller holds mu.
func (w *Writer[T]) tryAgain() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// wake lets the goroutine send without waiting for the timer.
func (w *Writer[T]) wake() {
	select {
	case w.full <- struct{}{}:
	default:
	}
}

// run sends batches that are full or have waited long enough.
func (w *Writer[T]) run() {
	defer close(w.done)
	for {
		// An error is the end of w.ctx, or is kept in w.err.
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

// makeRoom returns when the batch may have room. If it gets the turn first, it sends the earlier
// batch itself, until ctx ends, and then leaves the batch to the goroutine.
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
		// Close ends the sending as well, so ctx needs a cancel function of its own.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(w.ctx, cancel)()
		if err := w.deliver(ctx); err != nil {
			return err
		}
	}
	w.seal(true) // end has signalled the goroutine
	return nil
}

// send sends the message that waits, and then the batch; with onlyFull only a full one. It waits
// until ctx ends. After an error the rest stays.
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

// seal makes a message of the batch, with onlyFull only of a full one, and begins the next batch.
// The caller has the turn, and has sent the last message.
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
			w.wake() // the goroutine tries on
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

// Flush returns when the Sender has taken all records that were written before. It waits until ctx
// ends; the rest then stays in the Writer and is sent later. A record that the Sender has taken may
// not have arrived yet.
func (w *Writer[T]) Flush(ctx context.Context) error { return w.send(ctx, false) }

// Close ends the Writer. The Writer takes no more records and gives all earlier ones to the Sender.
// Close waits until ctx ends. Its error then says how many records are lost, unless another call of
// Close sends them. The Sender stays open: call its Shutdown after Close.
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

// Stats returns the counts so far.
func (w *Writer[T]) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
