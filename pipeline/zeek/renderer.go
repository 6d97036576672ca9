package zeek

import (
	"bytes"
	"fmt"
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
	if opts.UseJSON {
		r.json = newJSON(opts, s)
	} else {
		r.tsv = newTSV(opts)
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

// AppendRecords appends a line for each record of b and returns the number of records.
// All or nothing: on error, which is an *Error, dst comes back as it was, records is 0
// and the batch has left no trace in the renderer. The columns of b must be those of
// the renderer's schema (Schema.SameColumns), else the reason is ReasonSchemaMismatch;
// stream, writer, filter and path are not compared. It does not allocate except to
// grow dst, and may use the capacity of dst behind what it appends.
func (r *Renderer) AppendRecords(dst []byte, b Batch) (out []byte, records int, err error) {
	if err := r.accept(b.Header); err != nil {
		return dst, 0, err
	}
	out = dst
	r.before = r.tsv.leftContainer
	values := b.Values
	for i := range b.NumRecords {
		var f *fault
		if r.json != nil {
			out, values, f = r.json.appendRecord(out, values, r.schema.Fields)
		} else {
			out, values, f = r.tsv.appendRecord(out, values, r.schema.Fields)
		}
		if f != nil {
			r.Rollback()
			return dst, 0, f.error(b, i, r.schema.Fields)
		}
	}
	return out, b.NumRecords, nil
}

// Rollback takes back what the last call of AppendRecords did to the renderer, for a
// caller that could not keep its text.
func (r *Renderer) Rollback() { r.tsv.leftContainer = r.before }

// accept checks that a batch with this header has the columns of the renderer. The
// header is looked into only when it is not the one of the batch before.
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
			Detail: fmt.Sprintf("a batch of stream %q for path %q: give logs with other columns their own renderer and file", s.Stream, s.Path),
		}
	}
	r.header = append(r.header[:0], header...)
	return nil
}

// error describes f for the caller of the package.
func (f *fault) error(b Batch, record int, columns []Field) *Error {
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
