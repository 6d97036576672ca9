package zeek

import (
	"bytes"
	"fmt"
	"math"
	"time"
)

// Renderer turns the batches of one log path into the text of its file. Keep one for each path and
// use it across rotations: with equal Separator and SetSeparator the escaping depends on earlier
// records, as in Zeek's writer. A Renderer is not safe for concurrent use.
type Renderer struct {
	schema *Schema
	header []byte // the last one that was found to have the columns of schema
	json   *json  // nil for TSV
	tsv    tsv    // not used for JSON
	pager  pager  // of json or tsv

	batch   Batch                                       // being rendered
	write   func(text []byte) (empty []byte, err error) // argument of RenderRecords
	checked bool                                        // batch has no fault

	before bool // tsv.leftContainer before the last batch
}

// NewRenderer returns a renderer for records with the columns of s. It keeps s. It fails if the
// schema or the options are not valid; see [Schema.Validate] and [Options.Validate].
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

// AppendHeader appends the header of a file that is opened at the time open, in that time's
// location. It appends nothing for JSON and without IncludeMeta.
func (r *Renderer) AppendHeader(dst []byte, open time.Time) []byte {
	if r.json != nil {
		return dst
	}
	return r.tsv.appendHeader(dst, r.schema, open)
}

// AppendFooter appends the footer of a file that is closed at the time close, in that time's
// location. It appends nothing for JSON and where AppendHeader appends no #open line.
func (r *Renderer) AppendFooter(dst []byte, close time.Time) []byte {
	if r.json != nil {
		return dst
	}
	return r.tsv.appendFooter(dst, close)
}

// PieceBytes is the approximate size in bytes of the pieces of RenderRecords.
const PieceBytes = 1 << 20

// AppendRecords appends a line for each record of b and returns the number of records. It allocates
// only to grow dst, and may write to the capacity of dst behind the text.
//
// The columns of b must be those of the renderer's schema (Schema.SameColumns), else the reason is
// ReasonSchemaMismatch. It does not compare stream, writer, filter and path. If it fails, it
// returns dst unchanged, 0 records and an *Error, and the renderer is as before.
//
// The text may be many times larger than the batch. For batches of a peer use RenderRecords.
func (r *Renderer) AppendRecords(dst []byte, b Batch) (out []byte, records int, err error) {
	r.pager.limit = math.MaxInt
	return r.render(dst, b)
}

// RenderRecords is AppendRecords for a text of any size, in a buffer of bounded size. Whenever dst
// has grown to about PieceBytes, it calls write with all of dst. write takes over the text and
// returns an empty buffer, perhaps the same one. out holds the text behind the last call.
//
// It checks the whole batch before the first call of write: no byte of a faulty batch gets there,
// and the error is that of AppendRecords. A piece consists either of whole lines or of a part of a
// single line longer than PieceBytes; the line behind that one begins a new piece. An error of
// write ends the rendering. RenderRecords returns it with an empty buffer.
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
		case f.err != nil && r.checked: // the error of write
			r.Rollback()
			return dst[:0], 0, f.err
		}
		r.Rollback()
		return dst, 0, f.error(b, i, r.schema.Fields)
	}
	return out, b.NumRecords, nil
}

// handOver passes text to write. Before the first text of a batch it checks the whole batch.
func (r *Renderer) handOver(text []byte) ([]byte, error) {
	if !r.checked {
		if err := r.check(); err != nil {
			return text, err
		}
		r.checked = true
	}
	return r.write(text)
}

// check reports the first fault in the values of the batch.
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

// Rollback undoes the effect of the last call of AppendRecords or RenderRecords on the renderer,
// for a caller that could not keep the text.
func (r *Renderer) Rollback() { r.tsv.leftContainer = r.before }

// accept checks that a batch with this header has the columns of the renderer. It parses the header
// only if it differs from that of the previous batch.
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
			Detail: fmt.Sprintf("stream %q, path %q; logs with other columns need "+
				"a renderer and a file of their own", s.Stream, s.Path),
		}
	}
	r.header = append(r.header[:0], header...)
	return nil
}

// pager hands over the text of a renderer when there is enough of it.
type pager struct {
	limit int                                         // text of this many bytes is handed over
	write func(text []byte) (empty []byte, err error) // Renderer.handOver
	// offset of the line that is being rendered
	line int
	// The beginning of that line was handed over. The rest of the line is a piece of its own.
	begun bool
}

// turn hands over text in the middle of a line: the lines before it and, if the line is long, the
// part of it that is in dst. begin completes the beginning of a line before its first part goes.
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

// error returns the error for f that the package's functions return.
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
