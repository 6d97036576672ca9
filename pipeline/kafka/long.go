package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/text"
)

// errLong reports that a text has more than one piece.
var errLong = errors.New("more than one piece")

// sendLong delivers an entry with a text of several pieces, one after the other, so that it needs
// memory for one piece only. It returns when the entry is done. The caller has a share of
// rendering.
func (s *Sink) sendLong(ctx context.Context, topic string, e *pipeline.Entry) {
	l := &long{sink: s, ctx: ctx, topic: topic, entry: e}
	buf := text.Get()
	var err error
	*buf, err = s.lines.Render(*buf, e.Batch,
		func(piece []byte) ([]byte, error) { return piece[:0], l.piece(piece) })
	if err == nil {
		err = l.piece(*buf)
	}
	text.Put(buf)
	if err == nil { // else the whole entry comes again
		for _, r := range l.refused {
			e.Refuse(r.Records, r.Why)
		}
	}
	e.Done(err)
}

// long is an entry that is delivered in pieces.
type long struct {
	sink  *Sink
	ctx   context.Context
	topic string
	entry *pipeline.Entry

	line    []byte // the beginning of a line longer than a piece
	size    int    // size of that line; line lacks what is beyond the limit
	refused []pipeline.Refusal
}

// piece delivers the lines of a piece, and waits for that. [zeek.Renderer.RenderRecords] defines
// pieces.
func (l *long) piece(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	whole := text[len(text)-1] == '\n'
	if l.size == 0 && whole {
		return l.deliver(text)
	}
	l.size += len(text)
	if most := l.sink.cfg.MaxBatchBytes; l.size > most+1 {
		l.line = nil
	} else {
		l.line = append(l.line, text...)
	}
	if !whole {
		return nil
	}
	line, size := l.line, l.size
	l.line, l.size = nil, 0
	if line != nil {
		return l.deliver(line)
	}
	l.refused = addRefusal(l.refused,
		pipeline.Refusal{Records: 1, Why: &pipeline.DropError{Reason: pipeline.ReasonTooLarge,
			Err: fmt.Errorf("record of %d bytes for topic %s: %w", size-1, l.topic,
				kerr.MessageTooLarge)}})
	return nil
}

// deliver delivers lines and waits until they are done.
func (l *long) deliver(lines []byte) error {
	copied := bytes.Clone(lines)
	d := &delivery{text: &copied, records: bytes.Count(lines, []byte{'\n'}), time: time.Now()}
	done := make(chan error, 1)
	d.done = func(err error) { done <- err }
	if err := l.sink.enqueue(l.ctx, l.topic, l.entry, d); err != nil {
		return err
	}
	select {
	case err := <-done:
		for _, r := range d.refused {
			l.refused = addRefusal(l.refused, r)
		}
		return err
	case <-l.ctx.Done():
		return fmt.Errorf("kafka: %w", l.ctx.Err())
	}
}
