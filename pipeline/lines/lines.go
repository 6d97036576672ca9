// Package lines renders log batches as text lines, one for each record, for sinks that are no
// files: there is no header, and batches of any number of logs go through one Renderer.
//
// The line is the one that Zeek's ASCII writer makes. Where records of several logs share a
// destination, it can begin with the log path: JSON with the field "_path", as in Zeek's JSON
// streaming logs; TSV with a column. The name of the path is escaped as a string value is. A log
// that has a column "_path" of its own, from a log extension, is left as it is.
package lines

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

// PathField is the name of the field that says which log a record belongs to.
const PathField = "_path"

// maxCache limits the bytes of all headers in the cache: one for each filter and path of the
// cluster, times the versions of its scripts.
const maxCache = 16 << 20

// Renderer renders batches. For concurrent use.
type Renderer struct {
	format   zeek.Options
	maxCache int // replaced by tests

	mu    sync.RWMutex
	cache map[string]*columns // guarded by mu; by Batch.Header
	bytes int                 // guarded by mu; of the keys of cache
}

// columns render the batches with one header, several of them at once.
type columns struct {
	schema *zeek.Schema
	format zeek.Options
	spare  sync.Pool // of *zeek.Renderer
}

// New returns a Renderer of lines in this format. With path every line begins with the log path. It
// refuses a format that cannot be cut into lines.
func New(format zeek.Options, path bool) (*Renderer, error) {
	if err := format.Validate(); err != nil {
		return nil, err
	}
	if !format.UseJSON {
		for _, o := range []struct{ name, value string }{
			{"separator", format.Separator}, {"set_separator", format.SetSeparator},
		} {
			if strings.Contains(o.value, "\n") {
				return nil,
					fmt.Errorf("lines: %s has a line feed, which ends a record: choose another one",
						o.name)
			}
		}
		if format.Separator == format.SetSeparator {
			// What Zeek escapes then depends on all records before.
			return nil,
				errors.New("lines: separator and set_separator are equal: choose two different " +
					"ones, or JSON")
		}
	}
	if path {
		format.PathField = PathField
	}
	return &Renderer{format: format, maxCache: maxCache, cache: make(map[string]*columns)}, nil
}

// Render appends a line for each record of b, each with a line feed at its end and none before.
// When there is much text it hands pieces of it to write, as [zeek.Renderer.RenderRecords] does. It
// allocates only to grow dst, and for headers that it has not met.
//
// The error is a *pipeline.DropError, which says why the batch is dropped, or that of write. Of a
// batch that is dropped nothing is handed to write, and dst comes back as it was.
func (r *Renderer) Render(dst []byte, b zeek.Batch,
	write func(text []byte) (empty []byte, err error)) ([]byte, error) {
	c, drop := r.columns(b)
	if drop != nil {
		return dst, drop
	}
	render, _ := c.spare.Get().(*zeek.Renderer)
	if render == nil {
		var err error
		if render, err = zeek.NewRenderer(c.schema, c.format); err != nil {
			return dst, pipeline.DropBatch(err)
		}
	}
	defer c.spare.Put(render)
	dst, _, err := render.RenderRecords(dst, b, write)
	if e, ok := errors.AsType[*zeek.Error](err); ok {
		err = pipeline.DropBatch(e)
	}
	return dst, err
}

// columns returns what renders batches with the header of b.
func (r *Renderer) columns(b zeek.Batch) (*columns, *pipeline.DropError) {
	r.mu.RLock()
	c := r.cache[string(b.Header)]
	r.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	schema, e := pipeline.ParseSchema(b)
	if e != nil {
		return nil, e
	}
	c = &columns{schema: schema, format: r.format}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.cache[string(b.Header)]; known != nil {
		return known, nil
	}
	if r.bytes += len(b.Header); r.bytes > r.maxCache {
		clear(r.cache)
		r.bytes = len(b.Header)
	}
	r.cache[string(b.Header)] = c
	return c, nil
}
