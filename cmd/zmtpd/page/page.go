// Package page is the web page of a daemon: a picture of the cluster with live numbers. The page
// gets what /status says, once a second, as server-sent events. All viewers share one stream: the
// status is made once a second, however many they are, and not at all when nobody looks.
package page

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"
)

//go:embed static
var static embed.FS

const (
	interval = time.Second
	// maxViewers bounds the open streams; each holds a connection.
	maxViewers = 100
	// writeTime is the longest time in which a viewer takes one status.
	writeTime = 10 * time.Second
)

// policy allows the page nothing but its own files and its own stream.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Page serves the page and its stream.
type Page struct {
	status func() ([]byte, error)
	ended  chan struct{}

	mu      sync.Mutex
	viewers map[chan []byte]struct{}
	running bool // the goroutine that asks for the status
	closed  bool
}

// New returns a Page that shows what status returns: a JSON object without line breaks. It is
// called by one goroutine at a time.
func New(status func() ([]byte, error)) *Page {
	return &Page{status: status, ended: make(chan struct{}),
		viewers: make(map[chan []byte]struct{})}
}

// Register adds the handlers of the page to mux: the paths /, /page/ and /stream.
func (p *Page) Register(mux *http.ServeMux) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	serve := http.FileServerFS(files)
	guarded := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Security-Policy", policy)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.Header().Set("Cache-Control", "no-cache")
			h.ServeHTTP(w, r)
		})
	}
	mux.Handle("GET /{$}", guarded(serve))
	mux.Handle("GET /page/", guarded(http.StripPrefix("/page", serve)))
	mux.Handle("GET /stream", guarded(http.HandlerFunc(p.stream)))
}

// Close ends all streams.
func (p *Page) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.ended)
	}
}

// stream sends a status a second until the viewer has gone.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	updates, ok := p.join()
	if !ok {
		http.Error(w, "too many viewers; close another page", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(updates)
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	for {
		select {
		case status := <-updates:
			out.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := fmt.Fprintf(w, "data: %s\n\n", status); err != nil {
				return
			}
			if out.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-p.ended:
			return
		}
	}
}

// join adds a viewer, and starts the updates for the first one.
func (p *Page) join() (updates chan []byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.viewers) >= maxViewers {
		return nil, false
	}
	updates = make(chan []byte, 1)
	p.viewers[updates] = struct{}{}
	if !p.running {
		p.running = true
		go p.run()
	}
	return updates, true
}

func (p *Page) leave(updates chan []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.viewers, updates)
}

// run sends the status to all viewers until there are none.
func (p *Page) run() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if status, err := p.status(); err == nil && !p.send(status) || err != nil && !p.send(nil) {
			return
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return
		}
	}
}

// send gives the status, unless it is nil, to all viewers. One that has not yet taken the last
// status misses this one. send reports false if there are no viewers.
func (p *Page) send(status []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.viewers) == 0 || p.closed {
		p.running = false
		return false
	}
	for v := range p.viewers {
		if status == nil {
			break
		}
		select {
		case v <- status:
		default:
		}
	}
	return true
}
