// Package lines renders log batches as text lines, one for each record, for sinks that are no files: there is no header, and
// batches of any number of logs go through one Renderer.
//
// The line is the one that Zeek's ASCII writer makes. Where records of several logs share a destination, it can begin with
// the log path: JSON with the field "_path", as in Zeek's JSON streaming logs; TSV with a column. The name of the path is
// escaped as a string value is. A log that has a column "_path" of its own, from a log extension, is left as it is.
package lines

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

// PathField is the name of the field that says which log a record belongs to.
const PathField = "_path"

const (
	// maxCache limits the bytes of all headers in the cache: one for each filter and path of the cluster, times the versions
	// of its scripts.
	maxCache = 16 << 20
	// keepSize is the size up to which a buffer is kept for the next use.
	keepSize = 1 << 20
)

// Renderer renders batches. For concurrent use.
type Renderer struct {
	format zeek.Options
	path   bool

	mu    sync.RWMutex
	cache map[string]*columns // guarded by mu; by Batch.Header
	bytes int                 // guarded by mu; of the keys of cache
}

// columns render the batches with one header, several of them at once.
type columns struct {
	schema *zeek.Schema
	format zeek.Options
	prefix []byte    // of a line, for JSON in place of its first brace; nil for none
	spare  sync.Pool // of *worker
}

type worker struct {
	render *zeek.Renderer
	text   []byte // before the prefix
}

// New returns a Renderer of lines in this format. With path every line begins with the log path. It refuses a format
// that cannot be cut into lines.
func New(format zeek.Options, path bool) (*Renderer, error) {
	if err := format.Validate(); err != nil {
		return nil, err
	}
	if !format.UseJSON {
		for _, o := range []struct{ name, value string }{
			{"separator", format.Separator}, {"set_separator", format.SetSeparator},
		} {
			if strings.Contains(o.value, "\n") {
				return nil, fmt.Errorf("lines: %s has a line feed, which ends a record: choose another one", o.name)
			}
		}
		if format.Separator == format.SetSeparator {
			// What Zeek escapes then depends on all records before.
			return nil, errors.New("lines: separator and set_separator are equal: choose two different ones, or JSON")
		}
	}
	return &Renderer{format: format, path: path, cache: make(map[string]*columns)}, nil
}

// Append appends a line for each record of b, each with a line feed at its end and none before. All or nothing: with an
// error, which says why the batch is dropped, dst comes back as it was. It allocates only to grow dst, and for headers
// that it has not met.
func (r *Renderer) Append(dst []byte, b zeek.Batch) ([]byte, *pipeline.DropError) {
	c, e := r.columns(b)
	if e != nil {
		return dst, e
	}
	w, err := c.worker()
	if err != nil {
		return dst, pipeline.DropBatch(err)
	}
	defer c.spare.Put(w)
	if c.prefix == nil {
		dst, _, err = w.render.AppendRecords(dst, b)
	} else {
		w.text, _, err = w.render.AppendRecords(w.text[:0], b)
		if err == nil {
			dst = c.appendPrefixed(dst, w.text)
		}
		if cap(w.text) > keepSize {
			w.text = nil
		}
	}
	if err != nil {
		return dst, pipeline.DropBatch(err)
	}
	return dst, nil
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
	if r.path {
		var err error
		if c.prefix, err = c.pathPrefix(); err != nil {
			return nil, pipeline.DropBatch(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.cache[string(b.Header)]; known != nil {
		return known, nil
	}
	if r.bytes += len(b.Header); r.bytes > maxCache {
		clear(r.cache)
		r.bytes = len(b.Header)
	}
	r.cache[string(b.Header)] = c
	return c, nil
}

func (c *columns) worker() (*worker, error) {
	if w, _ := c.spare.Get().(*worker); w != nil {
		return w, nil
	}
	render, err := zeek.NewRenderer(c.schema, c.format)
	return &worker{render: render}, err
}

// pathPrefix returns what a line begins with: the record of a log that has the log path as its only column, without the end.
func (c *columns) pathPrefix() ([]byte, error) {
	for _, f := range c.schema.Fields {
		if f.Name == PathField {
			return nil, nil
		}
	}
	only := &zeek.Schema{Stream: c.schema.Stream, Writer: c.schema.Writer, Fields: []zeek.Field{{Name: PathField, Type: zeek.TypeString}}}
	raw, err := zeek.AppendBatch(nil, only, [][]zeek.Value{{zeek.String(c.schema.Path)}})
	if err != nil {
		return nil, err
	}
	batch, err := zeek.ParseBatch(raw)
	if err != nil {
		return nil, err
	}
	render, err := zeek.NewRenderer(only, c.format)
	if err != nil {
		return nil, err
	}
	line, _, err := render.AppendRecords(nil, batch)
	if err != nil {
		return nil, err
	}
	if c.format.UseJSON {
		return append(bytes.TrimSuffix(line, []byte("}\n")), ','), nil
	}
	return append(bytes.TrimSuffix(line, []byte("\n")), c.format.Separator...), nil
}

// appendPrefixed appends the lines of text, the prefix before each.
func (c *columns) appendPrefixed(dst, text []byte) []byte {
	for line := range bytes.Lines(text) {
		dst = append(dst, c.prefix...)
		if c.format.UseJSON {
			line = line[1:]
			if line[0] == '}' { // no field is set
				dst = dst[:len(dst)-1]
			}
		}
		dst = append(dst, line...)
	}
	return dst
}

var texts = sync.Pool{New: func() any { return new([]byte) }}

// GetText returns an empty buffer for lines, which PutText takes back.
func GetText() *[]byte { return texts.Get().(*[]byte) }

// PutText takes a buffer back, which the caller does not use any more.
func PutText(b *[]byte) {
	if cap(*b) <= keepSize {
		*b = (*b)[:0]
		texts.Put(b)
	}
}
