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

// DropBatch is the DropError of a batch that package zeek refused with err.
func DropBatch(err error) *DropError {
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
	b, e := parseMessage(parts)
	if e != nil {
		return l.reject(nodeOf(parts), e)
	}
	return l.writeBatch(ctx, parts[1], b)
}

// WriteBatch is Write for a message that is known to be a log message: a batch in
// the encoding zeek-bin-serializer from the node of that id.
func (l *Logger) WriteBatch(ctx context.Context, node, batch []byte) error {
	b, err := zeek.ParseBatch(batch)
	if err != nil {
		return l.reject(node, DropBatch(err))
	}
	return l.writeBatch(ctx, node, b)
}

func (l *Logger) writeBatch(ctx context.Context, node []byte, b zeek.Batch) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	in := intake{batch: b}
	in.from = l.acct.receive(node, in.counts())
	log, e := l.write(ctx, &in)
	if e == nil {
		return nil
	}
	if l.acct.drop(in.from, log, in.counts(), e.Reason) {
		l.acct.warn(e, node, string(b.Path))
	}
	return e
}

// intake is a batch that was received and not put into its file's buffer yet.
type intake struct {
	batch zeek.Batch
	from  *sender
	entry *Entry // who is waiting for it to be in the file, nil for nobody
}

func (in *intake) counts() Counts { return Counts{1, uint64(in.batch.NumRecords)} }

// delivery is an entry on its way into a file.
type delivery struct {
	entry *Entry
	from  *sender
	n     Counts
}

// Send implements Sink. An entry is done when its records were handed to the operating system, at most Config.FlushInterval
// after that was possible.
func (l *Logger) Send(ctx context.Context, e *Entry) {
	if !l.begin() {
		e.Done(ErrClosed)
		return
	}
	defer l.inflight.Done()
	in := intake{batch: e.Batch, entry: e}
	in.from = l.acct.receive(e.Node, in.counts())
	log, why := l.write(ctx, &in)
	switch {
	case why == nil:
	case why.Reason == ReasonWrite:
		l.acct.giveBack(in.from, log, in.counts())
		e.Done(why)
	default:
		l.acct.drop(in.from, log, in.counts(), why.Reason)
		e.Refuse(in.counts().Records, why)
		e.Done(nil)
	}
}

// parseMessage returns the batch in a log message.
func parseMessage(parts [][]byte) (zeek.Batch, *DropError) {
	if len(parts) != 4 {
		return zeek.Batch{}, drop(ReasonParts, "%d parts, a log message has 4", len(parts))
	}
	if string(parts[2]) != zeek.SerializerName {
		return zeek.Batch{}, drop(ReasonSerializer, "batch in %.60q, want %q: set Cluster::log_serializer of the nodes to Zeek's default",
			parts[2], zeek.SerializerName)
	}
	b, err := zeek.ParseBatch(parts[3])
	if err != nil {
		return zeek.Batch{}, DropBatch(err)
	}
	return b, nil
}

// writerASCII is the only writer of Zeek's that there is.
const writerASCII = "Log::WRITER_ASCII"

// maxHeader limits the bytes of a batch's header, of which a sink keeps what it says for each log. Zeek's widest log, conn, has about a
// thousand.
const maxHeader = 64 << 10

// ParseSchema returns what the header of a batch says, or why no sink takes such a batch.
func ParseSchema(b zeek.Batch) (*zeek.Schema, *DropError) {
	if string(b.Writer) != writerASCII {
		return nil, drop(ReasonWriter, "filter %.60q of %.60q writes with %.60q, the logger has %s only", b.Filter, b.Stream, b.Writer, writerASCII)
	}
	if len(b.Header) > maxHeader {
		return nil, drop(ReasonHeader, "the names and types of %d columns take %d bytes, at most %d are allowed", b.NumFields, len(b.Header), maxHeader)
	}
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		return nil, DropBatch(err)
	}
	return schema, nil
}

// nodeOf returns the id of the node that sent a message, which may be malformed.
func nodeOf(parts [][]byte) []byte {
	if len(parts) < 2 {
		return nil
	}
	return parts[1]
}

// reject counts a message of which no record can be told.
func (l *Logger) reject(node []byte, e *DropError) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	l.acct.refuse(node, e)
	return e
}
