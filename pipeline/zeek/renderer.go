package zeek

import (
	"errors"
	"time"
)

// Renderer turns the batches of one log path into the text of its file. Keep one for
// each path and use it across rotations: as in Zeek's writer, with equal Separator and
// SetSeparator what is escaped depends on the records before. Not for concurrent use.
type Renderer struct {
	opts   Options
	schema *Schema
}

// NewRenderer returns a renderer for records with the columns of s. It fails if the
// options make no sense (see [Options.Validate]). It keeps s.
func NewRenderer(s *Schema, opts Options) (*Renderer, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	return &Renderer{opts: opts, schema: s}, nil
}

// Schema returns the schema given to NewRenderer.
func (r *Renderer) Schema() *Schema { return r.schema }

// AppendHeader appends what stands at the start of a file that was opened at open,
// shown in open's location; nothing for JSON and without IncludeMeta.
func (r *Renderer) AppendHeader(dst []byte, open time.Time) []byte { return dst }

// AppendFooter appends what stands at the end of a file that is closed at close, shown
// in close's location; nothing where AppendHeader appends no #open line.
func (r *Renderer) AppendFooter(dst []byte, close time.Time) []byte { return dst }

// AppendRecords appends a line for each record of b and returns the number of records.
// All or nothing: on error, which is an *Error, dst comes back as it was, records is 0
// and the batch has left no trace in the renderer. The columns of b must be those of
// the renderer's schema (Schema.SameColumns), else the reason is ReasonSchemaMismatch; stream,
// writer, filter and path are not compared. It does not allocate except to grow dst.
func (r *Renderer) AppendRecords(dst []byte, b Batch) (out []byte, records int, err error) {
	return dst, 0, errors.New("zeek: not implemented")
}
