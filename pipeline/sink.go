package pipeline

import (
	"context"
	"errors"

	"zmtpd/pipeline/zeek"
)

// ErrGone is in the error with which a Sink gives up an entry when its destination can never come
// back, such as a pipe whose reader has ended. The sink gets nothing more then; see
// [OutletConfig.Gone].
var ErrGone = errors.New("the destination is gone for good")

// Sink is a destination of log batches: files, standard output, Kafka.
//
// It delivers at least once: what it has not reported as done it is given again, perhaps by another
// process.
type Sink interface {
	// Send delivers a batch, and calls e.Done exactly once, before or after it returns. Calls for
	// one source (a node, or what sends for several) and log path come one after the other, in the
	// order that is to be kept; others come at the same time. Send may block while the destination
	// is down or slow, until ctx ends, and tries again what may succeed later.
	Send(ctx context.Context, e *Entry)
	// Close comes after the last Send has returned. It goes on to deliver what was sent until ctx
	// ends, gives up the rest (Entry.Done with an error), and returns when Done was called for
	// every entry.
	Close(ctx context.Context) error
}

// Flusher is a Sink that holds batches back, to deliver them together with others.
type Flusher interface {
	Sink
	// Flush makes it deliver what it has. It is called while others wait for that, and does not
	// block.
	Flush()
}

// Entry is a log batch on its way to a Sink.
type Entry struct {
	// Node is the id of the node that sent it, any bytes. Batch is well-formed as far as
	// zeek.ParseBatch looks. Both refer to memory that is valid until Done, or Taken.
	Node  []byte
	Batch zeek.Batch

	refused []Refusal
	taken   func() // nil for nobody to tell
	done    func(refused []Refusal, err error)
}

// Refusal is a number of records of a batch that a Sink can never deliver, and why.
type Refusal struct {
	Records uint64
	Why     *DropError
}

// NewEntry returns an entry whose Done calls done, with what was refused.
func NewEntry(node []byte, batch zeek.Batch, done func(refused []Refusal, err error)) *Entry {
	return &Entry{Node: node, Batch: batch, done: done}
}

// Taken may be called before Done: the sink has no more need of Node and Batch, which saves memory.
// It cannot refuse any of it then.
func (e *Entry) Taken() {
	if e.taken != nil {
		e.taken()
	}
}

// Refuse notes, before Done, that some of the records can never be delivered: they are dropped and
// counted. One goroutine at a time may call it.
func (e *Entry) Refuse(records uint64, why *DropError) {
	e.refused = append(e.refused, Refusal{records, why})
}

// Done ends the entry. Without an error all of its records are delivered but for those refused. An
// error says that the sink has given it up: records of it may have been delivered, it is to be
// delivered again.
func (e *Entry) Done(err error) { e.done(e.refused, err) }
