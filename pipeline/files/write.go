package files

import (
	"context"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

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
	b, e := pipeline.ParseMessage(parts)
	if e != nil {
		return l.reject(pipeline.NodeOf(parts), e)
	}
	return l.writeBatch(ctx, parts[1], b)
}

// WriteBatch is Write for a message that is known to be a log message: a batch in
// the encoding zeek-bin-serializer from the node of that id.
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
	in := intake{batch: b}
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

// intake is a batch that was received and not put into its file's buffer yet.
type intake struct {
	batch zeek.Batch
	from  *pipeline.Sender
	entry *pipeline.Entry // who is waiting for it to be in the file, nil for nobody
}

func (in *intake) counts() pipeline.Counts {
	return pipeline.Counts{Messages: 1, Records: uint64(in.batch.NumRecords)}
}

// delivery is an entry on its way into a file.
type delivery struct {
	entry *pipeline.Entry
	from  *pipeline.Sender
	n     pipeline.Counts
}

// Send implements Sink. An entry is done when its records were handed to the operating system, at most Config.FlushInterval
// after that was possible.
func (l *Logger) Send(ctx context.Context, e *pipeline.Entry) {
	if !l.begin() {
		e.Done(ErrClosed)
		return
	}
	defer l.inflight.Done()
	in := intake{batch: e.Batch, entry: e}
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

// reject counts a message of which no record can be told.
func (l *Logger) reject(node []byte, e *pipeline.DropError) error {
	if !l.begin() {
		return ErrClosed
	}
	defer l.inflight.Done()
	l.acct.Refuse(node, e)
	return e
}
