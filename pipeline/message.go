package pipeline

import (
	"errors"
	"fmt"

	"zmtpd/pipeline/zeek"
)

// Reason is why the logger dropped a message. Its String is a metric label.
type Reason uint8

// The reasons for which a message is dropped, beside those of package zeek for
// which a batch is refused; see BatchReason.
const (
	ReasonParts      Reason = iota // not the four parts of a log message
	ReasonSerializer               // the batch is in another encoding than zeek-bin-serializer
	ReasonWriter                   // the batch is for another writer than Log::WRITER_ASCII
	ReasonHeader                   // the batch's header is too large for a log that Zeek can have
	ReasonPath                     // the log path cannot be a file in the log folder
	ReasonManyFiles                // the node has begun as many logs as it may
	// the node has sent more sets of columns for one log than a change of scripts explains
	ReasonManySchemas
	ReasonWrite // the file could not be written and waiting for it was given up
	// the sink takes no records of that size, or its spool no such batch
	ReasonTooLarge
	// the sink's destination will not have the record, whatever the time
	ReasonRejected
	// the sink could not deliver it before the end, and there is no spool
	ReasonGivenUp
	ReasonSpoolFull // the oldest in a spool, dropped to make room
	// a record of the spool at which the process died twice; it is kept in a file
	ReasonSetAside
	reasonBatch // the first of package zeek's reasons
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
	ReasonSetAside:    "set_aside",
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

// DropError is the refusal of a received message. It is counted in Stats, and logged once for each
// sender and reason.
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

// Drop returns a DropError.
func Drop(r Reason, format string, args ...any) *DropError {
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

// ParseMessage returns the batch in a log message.
func ParseMessage(parts [][]byte) (zeek.Batch, *DropError) {
	if len(parts) != 4 {
		return zeek.Batch{}, Drop(ReasonParts, "not the 4 parts of a log message")
	}
	if string(parts[2]) != zeek.SerializerName {
		return zeek.Batch{}, Drop(ReasonSerializer,
			"batch in %.60q, want %q: set Cluster::log_serializer of the nodes to Zeek's default",
			parts[2], zeek.SerializerName)
	}
	b, err := zeek.ParseBatch(parts[3])
	if err != nil {
		return zeek.Batch{}, DropBatch(err)
	}
	return b, nil
}

// LogKey names a log: two streams may write to the same path.
type LogKey struct{ Path, Stream string }

// KeyOf returns the key of a batch's log.
func KeyOf(b zeek.Batch) LogKey { return LogKey{string(b.Path), string(b.Stream)} }

// writerASCII is the only writer of Zeek's that there is.
const writerASCII = "Log::WRITER_ASCII"

// maxHeader limits the bytes of a batch's header, of which a sink keeps what it says for each log.
// Zeek's widest log, conn, has about a thousand.
const maxHeader = 64 << 10

// ParseSchema returns what the header of a batch says, or why no sink takes such a batch.
func ParseSchema(b zeek.Batch) (*zeek.Schema, *DropError) {
	if string(b.Writer) != writerASCII {
		return nil, Drop(ReasonWriter,
			"filter %.60q of %.60q writes with %.60q, the logger has %s only", b.Filter, b.Stream,
			b.Writer, writerASCII)
	}
	if len(b.Header) > maxHeader {
		return nil, Drop(ReasonHeader,
			"the names and types of %d columns take %d bytes, at most %d are allowed", b.NumFields,
			len(b.Header), maxHeader)
	}
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		return nil, DropBatch(err)
	}
	return schema, nil
}

// NodeOf returns the id of the node that sent a message, which may be malformed.
func NodeOf(parts [][]byte) []byte {
	if len(parts) < 2 {
		return nil
	}
	return parts[1]
}
