package files

import (
	"sync"

	"zmtpd/pipeline/zeek"
)

// renderers render the batches of one set of columns, several batches at a time.
type renderers struct {
	schema *zeek.Schema
	format zeek.Options
	// main renders headers, and records that depend on those before them. The log's mu guards it.
	main *zeek.Renderer
	// ordered says that records depend on those before them (see zeek.Renderer).
	ordered bool
	spare   sync.Pool // of *zeek.Renderer, for independent records
}

func newRenderers(schema *zeek.Schema, format zeek.Options) (*renderers, error) {
	main, err := zeek.NewRenderer(schema, format)
	if err != nil {
		return nil, err
	}
	return &renderers{
		schema:  schema,
		format:  format,
		main:    main,
		ordered: !format.UseJSON && format.Separator == format.SetSeparator,
	}, nil
}

// appendRecords renders a batch whose records do not depend on others. The error is errLong if its
// text has more than one piece; it has no fault then. For concurrent use.
func (r *renderers) appendRecords(dst []byte, b zeek.Batch) ([]byte, error) {
	one, _ := r.spare.Get().(*zeek.Renderer)
	if one == nil {
		var err error
		if one, err = zeek.NewRenderer(r.schema, r.format); err != nil {
			return dst, err
		}
	}
	defer r.spare.Put(one)
	dst, _, err := one.RenderRecords(dst, b, refuseLong)
	return dst, err
}

// keepSize is the size of the largest buffer that is kept for its next use, in bytes: that of a
// piece, and what comes behind its limit.
const keepSize = zeek.PieceBytes + zeek.PieceBytes/4

// scratch holds buffers for the text of batches on their way into a file's buffer.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

func getScratch() *[]byte { return scratch.Get().(*[]byte) }

func putScratch(b *[]byte) {
	if cap(*b) > 0 && cap(*b) <= keepSize {
		*b = (*b)[:0]
		scratch.Put(b)
	}
}
