package files

import (
	"sync"
	"sync/atomic"

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

	renderings atomic.Uint64 // of batches, each attempt; for tests
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
	r.renderings.Add(1)
	dst, _, err := one.RenderRecords(dst, b, refuseLong)
	return dst, err
}
