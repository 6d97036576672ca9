package files

import (
	"context"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

// Write takes a log message, the parts of one ZeroMQ message: "log-write", the sender's node id,
// "zeek-bin-serializer" and the batch. As in Zeek the first part is not checked, and the second may
// be any bytes. Write keeps no reference to parts.
//
// It returns nil when the records are in the buffer of their file, which is written at most
// Config.FlushInterval later. It blocks while the file cannot be written, such as on a full disk,
// until ctx ends or Close gives up. The error is a *pipeline.DropError, or ErrClosed for a message
// that was not received. The records of one sender stay in order if its calls come one after the
// other.
func (l *Logger) Write(ctx context.Context, parts [][]byte) error {
	b, e := pipeline.ParseMessage(parts)
	if e != nil {
		return l.reject(pipeline.NodeOf(parts), e)
	}
	return l.writeBatch(ctx, parts[1], b)
}

// WriteBatch is Write for the two parts of a message that matter: the node id and the batch.
func (l *Logger) WriteBatch(ctx context.Context, node, batch []byte) error {
	b, err := zeek.ParseBatch(batch)
	if err != nil {
		return l.reject(node, pipeline.DropBatch(err))
	}
	return l.writeBatch(ctx, node, b)
}

func (l *Logger) writeBatch(ctx context.Context, node []byte, b zeek.Batch) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	in := intake{batch: b, id: node}
	in.from = l.acct.Receive(node, in.counts())
	log, e := l.write(ctx, &in)
	if e == nil {
		return nil
	}
	if l.acct.Drop(in.from, log, in.counts(), e.Reason) {
		l.acct.Warn(e, node, string(b.Path))
	}
	return e
}

// intake is a batch on its way into the buffer of its file.
type intake struct {
	batch zeek.Batch
	from  *pipeline.Sender
	id    []byte // of the node
	node  *node
	entry *pipeline.Entry // done when the batch is written; nil for none

	sound    bool  // it was rendered before and has no fault
	failedAt int64 // bytes of its text up to the end of the piece that could not be written
}

func (in *intake) counts() pipeline.Counts {
	return pipeline.Counts{Messages: 1, Records: uint64(in.batch.NumRecords)}
}

// delivery is an entry in the buffer of a file.
type delivery struct {
	entry *pipeline.Entry
	from  *pipeline.Sender
	n     pipeline.Counts
}

// Send implements [pipeline.Sink]. An entry is done when the operating system has its records, at
// most Config.FlushInterval after the file could be written.
func (l *Logger) Send(ctx context.Context, e *pipeline.Entry) {
	if !l.begin() {
		e.Done(ErrClosed)
		return
	}
	defer l.inflight.Done()
	in := intake{batch: e.Batch, id: e.Node, entry: e}
	in.from = l.acct.Receive(e.Node, in.counts())
	log, why := l.write(ctx, &in)
	switch {
	case why == nil:
	case why.Reason == pipeline.ReasonWrite:
		l.acct.GiveBack(in.from, log, in.counts())
		e.Done(why)
	default:
		l.acct.Drop(in.from, log, in.counts(), why.Reason)
		e.Refuse(in.counts().Records, why)
		e.Done(nil)
	}
}

// reject counts a message whose records are not known.
func (l *Logger) reject(node []byte, e *pipeline.DropError) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	l.acct.Refuse(node, e)
	return e
}
