package pipeline

import (
	"context"
	"errors"

	"zmtpd/pipeline/zeek"
)

// ErrGone says that a destination can never come back, such as a pipe whose reader has ended. A
// Sink wraps it in the error with which it gives up an entry, and gets no more entries then; see
// [OutletConfig.Gone].
var ErrGone = errors.New("the destination is gone for good")

// Sink is a destination of log batches: files, standard output, Kafka.
//
// It delivers at least once: an entry that it has not reported as done comes again, perhaps in
// another process.
type Sink interface {
	// Send delivers a batch and calls e.Done exactly once, before or after it returns. Calls for
	// one flow, a source and log path, come one after the other, in the order to keep; calls for
	// different flows are concurrent. Send may block while the destination is down or slow, until
	// ctx ends. It retries what may succeed later.
	Send(ctx context.Context, e *Entry)
	// Close is called after the last Send has returned. It delivers what was sent until ctx ends,
	// gives up the rest (Entry.Done with an error), and returns when Done was called for every
	// entry.
	Close(ctx context.Context) error
}

// Flusher is a Sink that holds batches back to deliver several together.
type Flusher interface {
	Sink
	// Flush makes the sink deliver what it holds back. It does not block.
	Flush()
}

// Entry is a log batch for a Sink.
type Entry struct {
	// Node is the id of the node that sent it, any bytes. Batch is well-formed as far as
	// zeek.ParseBatch looks. Both refer to memory that is valid until Done, or Taken.
	Node  []byte
	Batch zeek.Batch

	refused []Refusal
	taken   func() // nil for nobody to tell
	done    func(refused []Refusal, err error)
}

// Refusal counts records of a batch that a Sink can never deliver, with the reason.
type Refusal struct {
	Records uint64
	Why     *DropError
}

// NewEntry returns an entry whose Done calls done, with what was refused.
func NewEntry(node []byte, batch zeek.Batch, done func(refused []Refusal, err error)) *Entry {
	return &Entry{Node: node, Batch: batch, done: done}
}

// Taken may be called before Done, when the sink no longer needs Node and Batch. It frees their
// memory early. The sink cannot refuse records afterwards.
func (e *Entry) Taken() {
	if e.taken != nil {
		e.taken()
	}
}

// Refuse notes that records can never be delivered; Done drops and counts them. It must not be
// called concurrently.
func (e *Entry) Refuse(records uint64, why *DropError) {
	e.refused = append(e.refused, Refusal{records, why})
}

// Done ends the entry. Without an error, all records that were not refused are delivered. With an
// error the sink has given the entry up: some of its records may be delivered, and the entry has to
// be delivered again.
func (e *Entry) Done(err error) { e.done(e.refused, err) }
