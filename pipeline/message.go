package pipeline

import (
	"context"
	"errors"
	"fmt"

	"zmtpd/pipeline/zeek"
)

// Reason says in one word why the logger dropped a message. Its String is meant
// to be a metric label.
type Reason uint8

// The reasons for which a message is dropped, beside those of package zeek for
// which a batch is refused; see BatchReason.
const (
	ReasonParts       Reason = iota // not the four parts of a log message
	ReasonSerializer                // the batch is in another encoding than zeek-bin-serializer
	ReasonWriter                    // the batch is for another writer than Log::WRITER_ASCII
	ReasonHeader                    // the batch's header is too large for a log that Zeek can have
	ReasonPath                      // the log path cannot be a file in the log folder
	ReasonManyFiles                 // Config.MaxFiles is reached
	ReasonManySchemas               // more sets of columns for one path than a change of scripts explains
	ReasonWrite                     // the file could not be written and waiting for it was given up
	ReasonTooLarge                  // the sink takes no records of that size
	ReasonRejected                  // the sink's destination will not have the record, whatever the time
	ReasonGivenUp                   // the sink could not deliver it before the end, and there is no spool
	ReasonSpoolFull                 // the oldest in a spool, dropped to make room
	reasonBatch                     // the first of package zeek's reasons
)

var reasonNames = [reasonBatch]string{
	ReasonParts:       "parts",
	ReasonSerializer:  "serializer",
	ReasonWriter:      "writer",
	ReasonHeader:      "header",
	ReasonPath:        "path",
	ReasonManyFiles:   "many_files",
	ReasonManySchemas: "many_schemas",
	ReasonWrite:       "write",
	ReasonTooLarge:    "too_large",
	ReasonRejected:    "rejected",
	ReasonGivenUp:     "given_up",
	ReasonSpoolFull:   "spool_full",
}

// BatchReason returns the Reason of a batch that package zeek refused for r.
func BatchReason(r zeek.Reason) Reason {
	return reasonBatch + Reason(r)
}

// Reasons returns all reasons, so that a metric can start with every label.
func Reasons() []Reason {
	var all []Reason
	for r := range reasonBatch {
		all = append(all, r)
	}
	for _, r := range zeek.Reasons() {
		all = append(all, BatchReason(r))
	}
	return all
}

// String returns the reason as a lower-case word with underscores.
func (r Reason) String() string {
	if r < reasonBatch {
		return reasonNames[r]
	}
	return zeek.Reason(r - reasonBatch).String()
}

// DropError is the refusal of a message that the logger did receive. It is counted
// in Stats and logged once for each sender and reason.
type DropError struct {
	Reason Reason
	Err    error // what was wrong, in detail
}

// Error says why, on one line.
func (e *DropError) Error() string {
	return fmt.Sprintf("log message dropped (%v): %v", e.Reason, e.Err)
}

// Unwrap returns the detail.
func (e *DropError) Unwrap() error { return e.Err }

func drop(r Reason, format string, args ...any) *DropError {
	return &DropError{r, fmt.Errorf(format, args...)}
}

// dropBatch is the DropError of a batch that package zeek refused.
func dropBatch(err error) *DropError {
	var r zeek.Reason
	if e, ok := errors.AsType[*zeek.Error](err); ok {
		r = e.Reason
	}
	return &DropError{BatchReason(r), err}
}

// Write takes a log message, the parts of one ZeroMQ message: "log-write", the
// sender's node id, "zeek-bin-serializer" and the batch. As in Zeek the first is
// not looked at and the second may be any bytes. Write keeps nothing of parts.
//
// It returns nil when the records are queued for their file or dealt with, which
// they are in it at most Config.FlushInterval later. It blocks while the file cannot
// be written, until it can or ctx ends or Close gives up; so a full disk holds up
// the senders. The error is a *DropError, or ErrClosed for a message that
// was not received because the logger is closed. For concurrent use; the
// messages of one sender must come one after the other for their order to hold.
func (l *Logger) Write(ctx context.Context, parts [][]byte) error {
	in, err := l.receive(parts)
	if err != nil {
		return err
	}
	return l.put(ctx, &in)
}

// WriteBatch is Write for a message that is known to be a log message: a batch in
// the encoding zeek-bin-serializer from the node of that id.
func (l *Logger) WriteBatch(ctx context.Context, node, batch []byte) error {
	in, err := l.receiveBatch(node, batch)
	if err != nil {
		return err
	}
	return l.put(ctx, &in)
}

// intake is a batch that was received and not put into its file's buffer yet. It refers to the message.
type intake struct {
	node  []byte
	batch zeek.Batch
	from  *sender
}

func (in *intake) counts() Counts { return Counts{1, uint64(in.batch.NumRecords)} }

// receive checks a message and counts it. What it returns without an error must be given to put.
func (l *Logger) receive(parts [][]byte) (intake, error) {
	if len(parts) != 4 {
		var node []byte
		if len(parts) > 1 {
			node = parts[1]
		}
		return intake{}, l.reject(node, drop(ReasonParts, "%d parts, a log message has 4", len(parts)))
	}
	if string(parts[2]) != zeek.SerializerName {
		return intake{}, l.reject(parts[1], drop(ReasonSerializer, "batch in %.60q, want %q: set Cluster::log_serializer of the nodes to Zeek's default",
			parts[2], zeek.SerializerName))
	}
	return l.receiveBatch(parts[1], parts[3])
}

func (l *Logger) receiveBatch(node, batch []byte) (intake, error) {
	b, err := zeek.ParseBatch(batch)
	if err != nil {
		return intake{}, l.reject(node, dropBatch(err))
	}
	if !l.begin() {
		return intake{}, ErrClosed
	}
	in := intake{node: node, batch: b}
	in.from = l.acct.receive(node, in.counts())
	return in, nil
}

// put puts what receive returned into its file's buffer. It waits as Write does.
func (l *Logger) put(ctx context.Context, in *intake) error {
	defer l.inflight.Done()
	if log, e := l.write(ctx, in.batch, in.from); e != nil {
		l.acct.drop(in.from, log, in.counts(), e, in.node, string(in.batch.Path))
		return e
	}
	return nil
}

// reject counts a message of which no record can be told.
func (l *Logger) reject(node []byte, e *DropError) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	n := Counts{Messages: 1}
	l.acct.drop(l.acct.receive(node, n), nil, n, e, node, "")
	return e
}
