// Package lines renders log batches as text lines, one for each record, for sinks that are not
// files: there is no header, and one Renderer takes the batches of any number of logs.
//
// A line is the one that Zeek's ASCII writer makes. Where records of several logs share a
// destination, it can begin with the log path: in JSON as the field "_path", as in Zeek's JSON
// streaming logs, and in TSV as a column. The path is escaped as a string value is. A log that
// already has a column "_path", from a log extension, gets no second one.
package lines

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

// PathField is the name of the field with the path of a record's log.
const PathField = "_path"

// maxCache bounds the cache, in bytes of headers. A cluster has one header for each filter and
// path, times the versions of its scripts.
const maxCache = 16 << 20

// Renderer renders batches. It is safe for concurrent use.
type Renderer struct {
	format   zeek.Options
	maxCache int // tests replace it

	mu    sync.RWMutex
	cache map[string]*columns // guarded by mu; the key is Batch.Header
	bytes int                 // guarded by mu; size of the keys of cache
}

// columns renders batches with the same header, several at the same time.
type columns struct {
	schema *zeek.Schema
	format zeek.Options
	spare  sync.Pool // of *zeek.Renderer
}

// New returns a Renderer for lines in the format. If path is set, every line begins with the log
// path. New refuses a format that cannot be split into lines.
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
			// With such options, Zeek's escaping depends on all earlier records.
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

// Render appends a line for each record of b. Each ends with a line feed and has no other one. A
// large text goes to write in pieces, as in [zeek.Renderer.RenderRecords]. Render allocates only to
// grow dst, and for headers that it sees for the first time.
//
// The error is that of write, or a *pipeline.DropError with the reason for which the batch must be
// dropped. Then write has got nothing of the batch, and dst is returned unchanged.
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

// columns returns the columns for batches with the header of b.
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
