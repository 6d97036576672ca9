package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"zmtpd/cmd/zmtpd/page"
)

// webServer is the HTTP server of a daemon.
type webServer struct {
	url    string
	server *http.Server
	page   *page.Page
	done   chan struct{} // closed when it has ended
}

// serveHTTP starts the server of d at an address.
func serveHTTP(address string, d *daemon) (*webServer, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, ListenError("--http", address, err)
	}
	page := page.New(func() ([]byte, error) { return json.Marshal(d.status()) })
	w := &webServer{
		url:  "http://" + l.Addr().String(),
		page: page,
		server: &http.Server{
			Handler:           d.handler(page),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		w.server.Serve(l) // until close
	}()
	return w, nil
}

// close ends the server. Requests that are under way get a second.
func (w *webServer) close() {
	w.page.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		w.server.Close()
	}
	<-w.done
}

// handler returns the handler of all requests.
func (d *daemon) handler(page *page.Page) http.Handler {
	mux := http.NewServeMux()
	page.Register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry(), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := d.notReady(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		out.Encode(d.status()) // an error means that the client has gone
	})
	return mux
}
