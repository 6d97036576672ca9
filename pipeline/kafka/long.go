package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"zmtpd/pipeline"
	"zmtpd/pipeline/lines"
)

// errLong says that a text has more than one piece.
var errLong = errors.New("more than one piece")

// sendLong delivers an entry whose text has several pieces, one after the other, so that it never
// needs memory for more than one. It returns when the entry is done.
func (s *Sink) sendLong(ctx context.Context, topic string, e *pipeline.Entry) {
	l := &long{sink: s, ctx: ctx, topic: topic, entry: e}
	text := lines.GetText()
	var err error
	*text, err = s.lines.Render(*text, e.Batch,
		func(text []byte) ([]byte, error) { return text[:0], l.piece(text) })
	if err == nil {
		err = l.piece(*text)
	}
	lines.PutText(text)
	if err == nil { // else it comes again, as a whole
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

	line    []byte // the beginning of a line that is longer than a piece
	size    int    // bytes of that line so far, more than are in line if it is too long
	refused []pipeline.Refusal
}

// piece delivers the lines of a piece, and waits for that. See [zeek.Renderer.RenderRecords] for
// what a piece is.
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

// deliver delivers lines.
func (l *long) deliver(text []byte) error {
	d := newDelivery()
	*d.text = append(*d.text, text...)
	d.records = bytes.Count(text, []byte{'\n'})
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
