package zeek

import (
	"bytes"
	"fmt"
	"math"
	"time"
)

// Renderer turns the batches of one log path into the text of its file. Keep one for
// each path and use it across rotations: as in Zeek's writer, with equal Separator and
// SetSeparator what is escaped depends on the records before. Not for concurrent use.
type Renderer struct {
	schema *Schema
	header []byte // of the last batch that was found to have the schema's columns
	json   *json  // nil for TSV
	tsv    tsv    // not in use for JSON
	pager  pager  // of the one that is in use

	batch   Batch                                       // that is being rendered
	write   func(text []byte) (empty []byte, err error) // of RenderRecords
	checked bool                                        // batch is known to have no fault

	before bool // tsv.leftContainer before the last batch
}

// NewRenderer returns a renderer for records with the columns of s. It keeps s. It
// fails if the schema or the options make no sense (see [Schema.Validate] and
// [Options.Validate]).
func NewRenderer(s *Schema, opts Options) (*Renderer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	r := &Renderer{schema: s}
	r.pager.write = r.handOver
	if opts.UseJSON {
		r.json = newJSON(opts, s, &r.pager)
	} else {
		r.tsv = newTSV(opts, s, &r.pager)
	}
	return r, nil
}

// Schema returns the schema given to NewRenderer.
func (r *Renderer) Schema() *Schema { return r.schema }

// AppendHeader appends what stands at the start of a file that was opened at open,
// shown in open's location; nothing for JSON and without IncludeMeta.
func (r *Renderer) AppendHeader(dst []byte, open time.Time) []byte {
	if r.json != nil {
		return dst
	}
	return r.tsv.appendHeader(dst, r.schema, open)
}

// AppendFooter appends what stands at the end of a file that is closed at close, shown
// in close's location; nothing where AppendHeader appends no #open line.
func (r *Renderer) AppendFooter(dst []byte, close time.Time) []byte {
	if r.json != nil {
		return dst
	}
	return r.tsv.appendFooter(dst, close)
}

// PieceBytes is about how much text RenderRecords gathers before it hands it over, in bytes.
const PieceBytes = 1 << 20

// AppendRecords appends a line for each record of b and returns the number of records.
// All or nothing: on error, which is an *Error, dst comes back as it was, records is 0
// and the batch has left no trace in the renderer. The columns of b must be those of
// the renderer's schema (Schema.SameColumns), else the reason is ReasonSchemaMismatch;
// stream, writer, filter and path are not compared. It does not allocate except to
// grow dst, and may use the capacity of dst behind what it appends.
//
// The text may be many times as large as the batch. For batches of a peer use RenderRecords.
func (r *Renderer) AppendRecords(dst []byte, b Batch) (out []byte, records int, err error) {
	r.pager.limit = math.MaxInt
	return r.render(dst, b)
}

// RenderRecords is AppendRecords for a text of any size, in a buffer of bounded size. Each time
// dst has grown to about PieceBytes it calls write with all that is in dst. Write takes the text
// over and returns an empty buffer, perhaps the same, in which the text goes on. What write was
// not called for is in out at the end.
//
// Before the first call of write the whole batch has been checked: a faulty one comes to write
// with no byte, and its error is that of AppendRecords. A piece consists of whole lines, or is
// part of a single line longer than PieceBytes; the next line begins in another piece then. The
// error of a call of write ends the rendering and is returned, with an empty buffer.
func (r *Renderer) RenderRecords(dst []byte, b Batch,
	write func(text []byte) (empty []byte, err error)) (out []byte, records int, err error) {
	r.pager.limit = PieceBytes
	return r.renderPieces(dst, b, write)
}

// renderPieces is RenderRecords for pieces of any size.
func (r *Renderer) renderPieces(dst []byte, b Batch,
	write func(text []byte) (empty []byte, err error)) (out []byte, records int, err error) {
	r.batch, r.write, r.checked = b, write, false
	out, records, err = r.render(dst, b)
	r.batch, r.write = Batch{}, nil
	return out, records, err
}

func (r *Renderer) render(dst []byte, b Batch) (out []byte, records int, err error) {
	if err := r.accept(b.Header); err != nil {
		return dst, 0, err
	}
	out = dst
	r.before = r.tsv.leftContainer
	r.pager.begun = false
	values := b.Values
	for i := range b.NumRecords {
		var f *fault
		if r.json != nil {
			out, values, f = r.json.appendRecord(out, values, r.schema.Fields)
		} else {
			out, values, f = r.tsv.appendRecord(out, values, r.schema.Fields)
		}
		if f == nil && (len(out) >= r.pager.limit || r.pager.begun) {
			r.pager.begun = false
			if out, err = r.handOver(out); err != nil {
				f = &fault{err: err}
			}
		}
		switch {
		case f == nil:
			continue
		case f.err != nil && r.checked: // that of write
			r.Rollback()
			return dst[:0], 0, f.err
		}
		r.Rollback()
		return dst, 0, f.error(b, i, r.schema.Fields)
	}
	return out, b.NumRecords, nil
}

// handOver gives text to write. Nothing of a batch gets there before all of it is checked.
func (r *Renderer) handOver(text []byte) ([]byte, error) {
	if !r.checked {
		if err := r.check(); err != nil {
			return text, err
		}
		r.checked = true
	}
	return r.write(text)
}

// check reports what is wrong with the values of the batch.
func (r *Renderer) check() error {
	rd := reader{r.batch.Values}
	for i := range r.batch.NumRecords {
		for j := range r.schema.Fields {
			if f := rd.skip(j, r.schema.Fields[j].Type); f != nil {
				return f.error(r.batch, i, r.schema.Fields)
			}
		}
	}
	return nil
}

// Rollback takes back what the last call of AppendRecords or RenderRecords did to the renderer,
// for a caller that could not keep its text.
func (r *Renderer) Rollback() { r.tsv.leftContainer = r.before }

// accept checks that a batch with this header has the columns of the renderer. It parses the header
// only if it differs from that of the batch before.
func (r *Renderer) accept(header []byte) error {
	if r.header != nil && bytes.Equal(header, r.header) {
		return nil
	}
	s, err := ParseSchema(header)
	if err != nil {
		return err
	}
	if !s.SameColumns(r.schema) {
		return &Error{
			Reason: ReasonSchemaMismatch,
			Record: -1,
			Detail: fmt.Sprintf("a batch of stream %q for path %q: give logs with other columns "+
				"their own renderer and file", s.Stream, s.Path),
		}
	}
	r.header = append(r.header[:0], header...)
	return nil
}

// pager hands the text of a renderer over when there is much of it.
type pager struct {
	limit int                                         // bytes from which on it does
	write func(text []byte) (empty []byte, err error) // Renderer.handOver
	// where the line that is being rendered begins
	line int
	// its beginning has been handed over, so its end goes by itself
	begun bool
}

// turn hands over what is in dst, in the middle of a line: the lines before it, or, if it is long
// by itself, a part of it. Begin completes the beginning of the line before it goes.
func (p *pager) turn(dst []byte, begin func(dst []byte) []byte) ([]byte, error) {
	if !p.begun && p.line > 0 {
		line := dst[p.line:]
		empty, err := p.write(dst[:p.line])
		if err != nil {
			return dst, err
		}
		dst, p.line = append(empty, line...), 0
		if len(dst) < p.limit {
			return dst, nil
		}
	}
	if !p.begun {
		dst = begin(dst)
		p.begun = true
	}
	return p.write(dst)
}

// error describes f for the caller of the package.
func (f *fault) error(b Batch, record int, columns []Field) error {
	if f.err != nil {
		return f.err
	}
	e := &Error{
		Reason: f.reason,
		Offset: b.valuesOffset + len(b.Values) - len(f.at),
		Record: record,
		Field:  columns[f.column].Name,
	}
	switch want := columns[f.column].Type; {
	case f.reason == ReasonTypeMismatch:
		e.Detail = fmt.Sprintf("%s instead of %s", f.typ, want)
	case f.reason != ReasonTruncated:
		e.Detail = f.typ.String()
	}
	return e
}
