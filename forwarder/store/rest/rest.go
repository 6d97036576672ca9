// Package rest serves stores over HTTP, as JSON:
//
//	GET    /v1/stores                    the stores
//	GET    /v1/stores/NAME               entries: ?prefix=TEXT, ?limit=N, ?cursor=TEXT of the answer before
//	GET    /v1/stores/NAME?watch         changes as server-sent events: ?prefix=TEXT, ?after=SEQ
//	POST   /v1/stores/NAME               {"writes": [...]}: all or none, see PATCH; "key" names the key
//	GET    /v1/stores/NAME/KEY           an entry
//	PUT    /v1/stores/NAME/KEY           {"value": ..., "ttl": "1h"} sets it
//	PATCH  /v1/stores/NAME/KEY           {"op": "increment", "value": 1, "ttl": "1h"}: see store.Write;
//	                                     "index" and "old" are values too
//	DELETE /v1/stores/NAME/KEY           removes it
//
// A key is text, see [KeyText]; values are JSON, see [ParseValue]. Answers have the value in JSON
// and, exactly, in broker-bin-v1 (base64), which requests may use too: "raw".
//
// An entry has an ETag. If-Match with it, and If-None-Match with *, make PUT, PATCH and DELETE
// conditional; a condition that is not met is 412 and changes nothing. Errors are JSON, with the
// name and the number of Broker's error. A client shows its token in the header Authorization
// ("Bearer", a space and the token).
package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// Config configures a Server.
type Config struct {
	Stores func() []*store.Store // those that there are now
	// Master returns the master to which the writes of a store go, nil for a store of this process.
	// Default: nil.
	Master func(store string) Master
	// Clients returns the clients that may connect; nil for everybody. Default: everybody.
	Clients func() *Clients
	// MaxRequests and MaxWatches limit what is under way. Defaults 256 and 256.
	MaxRequests, MaxWatches int
}

const (
	maxBody     = 32 << 20 // bytes of a request; if it does not say how many, maxUnsaid
	maxUnsaid   = 1 << 20
	maxBodies   = 256 << 20 // bytes of all requests under way
	maxWrites   = 10_000    // of a batch
	maxList     = 1000      // entries of an answer
	listBytes   = 16 << 20  // of an answer; at least one entry
	keepAlive   = 15 * time.Second
	sendTimeout = 30 * time.Second // for a client to read a part of a watch
)

// Server is the handler of requests. It implements http.Handler.
type Server struct {
	cfg      Config
	mux      http.ServeMux
	requests atomic.Int64
	bodies   atomic.Int64 // bytes
	watches  atomic.Int64
	total    [numResults]atomic.Uint64
	end      context.Context
	stop     context.CancelFunc
}

// Result is what became of a request.
type Result uint8

// The results.
const (
	Done         Result = iota
	Unauthorized        // no token, or an unknown one
	Forbidden           // the client may not do that
	Refused             // the request is not valid, or its condition was not met
	Busy                // too many requests are under way
	Failed              // the store could not do it
	numResults
)

// String returns the name of the result in lower case.
func (r Result) String() string {
	return [...]string{"done", "unauthorized", "forbidden", "refused", "busy", "failed"}[r]
}

// Stats are the counters of a Server.
type Stats struct {
	Requests [numResults]uint64 // by Result
	Watches  int                // under way
}

// Stats returns a snapshot of the counters.
func (s *Server) Stats() (st Stats) {
	for i := range st.Requests {
		st.Requests[i] = s.total[i].Load()
	}
	st.Watches = int(s.watches.Load())
	return st
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 256
	}
	if cfg.MaxWatches == 0 {
		cfg.MaxWatches = 256
	}
	if cfg.Clients == nil {
		cfg.Clients = func() *Clients { return nil }
	}
	if cfg.Master == nil {
		cfg.Master = func(string) Master { return nil }
	}
	s := &Server{cfg: cfg}
	s.end, s.stop = context.WithCancel(context.Background())
	s.mux.HandleFunc("GET /v1/stores", s.serve(s.names))
	s.mux.HandleFunc("GET /v1/stores/{store}", s.serve(s.list))
	s.mux.HandleFunc("POST /v1/stores/{store}", s.serve(s.batch))
	s.mux.HandleFunc("GET /v1/stores/{store}/{key...}", s.serve(s.get))
	s.mux.HandleFunc("PUT /v1/stores/{store}/{key...}", s.serve(s.put))
	s.mux.HandleFunc("PATCH /v1/stores/{store}/{key...}", s.serve(s.patch))
	s.mux.HandleFunc("DELETE /v1/stores/{store}/{key...}", s.serve(s.delete))
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends all watches.
func (s *Server) Close() { s.stop() }

// request is a request under way.
type request struct {
	*http.Request
	w      http.ResponseWriter
	client *Client // nil for everybody
	store  *store.Store
	key    event.Raw // nil without one
}

// who returns the author of changes.
func (r *request) who() string {
	if r.client == nil {
		return "http"
	}
	return r.client.Name
}

// failure is an answer other than 200.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }

func failf(status int, format string, args ...any) error {
	return &failure{status, fmt.Errorf(format, args...)}
}

var errForbidden = &failure{http.StatusForbidden, errors.New("the client may not do that")}

// serve returns a handler that checks the client, the store and the key.
func (s *Server) serve(f func(*request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.requests.Add(1)-s.watches.Load() > int64(s.cfg.MaxRequests) {
			s.requests.Add(-1)
			s.answer(w, failf(http.StatusServiceUnavailable, "too many requests are under way"))
			return
		}
		defer s.requests.Add(-1)
		size := r.ContentLength
		if size < 0 {
			size = maxUnsaid
		}
		if size > maxBody {
			s.answer(w, failf(http.StatusRequestEntityTooLarge, "the body has %d bytes, %d are allowed; "+
				"send several requests", size, maxBody))
			return
		}
		defer s.bodies.Add(-size)
		if s.bodies.Add(size) > maxBodies {
			s.answer(w, failf(http.StatusServiceUnavailable, "the requests under way are too large"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, size)
		s.answer(w, s.check(&request{Request: r, w: w}, f))
	}
}

func (s *Server) check(r *request, f func(*request) error) error {
	if all := s.cfg.Clients(); all != nil {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if r.client = all.ByToken(token); r.client == nil {
			r.w.Header().Set("WWW-Authenticate", "Bearer")
			return failf(http.StatusUnauthorized, "the header Authorization has no token that is known")
		}
	}
	if name := r.PathValue("store"); name != "" {
		all := s.cfg.Stores()
		i := slices.IndexFunc(all, func(st *store.Store) bool { return st.Name() == name })
		if i < 0 {
			return &failure{http.StatusNotFound, store.Errorf(store.NoSuchMaster,
				"there is no store %.64q here", name)}
		}
		r.store = all[i]
	}
	if text := r.PathValue("key"); text != "" {
		var err error
		if r.key, err = ParseKey(text); err != nil {
			return err
		}
		if !r.client.May(r.store.Name(), r.key, r.Method != http.MethodGet) {
			return errForbidden
		}
	} else if strings.HasSuffix(r.URL.Path, "/") {
		return failf(http.StatusNotFound, "the key is missing")
	}
	return f(r)
}

// answer sends an error, if there is one, and counts.
func (s *Server) answer(w http.ResponseWriter, err error) {
	if err == nil {
		s.total[Done].Add(1)
		return
	}
	status, result := http.StatusInternalServerError, Refused
	var f *failure
	var code store.Code
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		status = f.status
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, store.NoSuchKey):
		status = http.StatusNotFound
	case errors.Is(err, store.TypeClash):
		status = http.StatusConflict
	case errors.Is(err, store.InvalidData):
		status = http.StatusBadRequest
	case errors.Is(err, store.StaleData):
		status = http.StatusGone
	case errors.Is(err, store.RequestTimeout):
		status = http.StatusGatewayTimeout
	case errors.Is(err, store.BackendFailure), errors.Is(err, store.ShuttingDown):
		status = http.StatusServiceUnavailable
	}
	errors.As(err, &code)
	switch status {
	case http.StatusUnauthorized:
		result = Unauthorized
	case http.StatusForbidden:
		result = Forbidden
	case http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusGatewayTimeout:
		result = Failed
		if f != nil {
			result = Busy
		}
	}
	s.total[result].Add(1)
	name := ""
	if code != 0 {
		name = code.String()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Code   uint8  `json:"code,omitempty"`
		Error  string `json:"error,omitempty"`
		Detail string `json:"detail"`
	}{uint8(code), name, err.Error()})
}

func (r *request) reply(v any) error {
	r.w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(r.w).Encode(v) // an error means that the client has gone
	return nil
}

func (s *Server) names(r *request) error {
	names := []string{}
	for _, st := range s.cfg.Stores() {
		names = append(names, st.Name())
	}
	return r.reply(map[string]any{"stores": names})
}

// etag tells the states of an entry apart. A number is used again if the backend has not taken its
// change, so the value takes part.
func etag(e *store.Entry) string {
	return fmt.Sprintf(`"%d-%08x"`, e.Seq, crc32.ChecksumIEEE(e.Value.Raw()))
}

func (s *Server) get(r *request) error {
	e := r.store.Get(r.key)
	if e == nil {
		return store.Errorf(store.NoSuchKey, "there is no entry %.200s", KeyText(r.key))
	}
	r.w.Header().Set("ETag", etag(e))
	if slices.Contains(tags(r.Header.Get("If-None-Match")), etag(e)) {
		r.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return r.reply(newEntry(e))
}

func tags(header string) (all []string) {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			all = append(all, tag)
		}
	}
	return all
}

func (s *Server) put(r *request) error { return s.change(r, "put") }

func (s *Server) patch(r *request) error { return s.change(r, "") }

func (s *Server) delete(r *request) error { return s.change(r, "erase") }

// change makes one write; op is empty if the body names it.
func (s *Server) change(r *request, op string) error {
	var body Write
	if op != "erase" {
		if err := decode(r.Body, &body); err != nil {
			return err
		}
	}
	if op != "" {
		body.Op = op
	}
	if body.Op == "clear" {
		return failf(http.StatusBadRequest, "clear removes all entries: send it with POST to the store")
	}
	w, err := body.parse(r.key)
	if err != nil {
		return err
	}
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if m := s.cfg.Master(r.store.Name()); m != nil {
		return r.ask(m, w, match, none)
	}
	var now *store.Entry
	err = r.store.Update(r.Context(), r.who(), func(tx *store.Tx) error {
		e := tx.Get(r.key)
		met := true
		if match != "" {
			met = e != nil && (match == "*" || slices.Contains(tags(match), etag(e)))
		}
		if none != "" {
			met = met && (e == nil || none != "*" && !slices.Contains(tags(none), etag(e)))
		}
		if met {
			if op == "erase" && e == nil {
				return store.Errorf(store.NoSuchKey, "there is no entry %.200s", KeyText(r.key))
			}
			if met, _, err = tx.Write(w); err != nil {
				return err
			}
		}
		if !met {
			return failf(http.StatusPreconditionFailed, "the condition of the request is not met")
		}
		now = tx.Get(r.key)
		return nil
	})
	if err != nil {
		return err
	}
	if now == nil {
		r.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	r.w.Header().Set("ETag", etag(now))
	return r.reply(newEntry(now))
}

func decode(body io.Reader, v any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("something follows the object")
	}
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return failf(http.StatusBadRequest, "the body is not the object that is expected: %w", err)
	}
	return err
}

// batch makes several writes, all or none.
func (s *Server) batch(r *request) error {
	var body struct{ Writes []Write }
	if err := decode(r.Body, &body); err != nil {
		return err
	}
	if n := len(body.Writes); n == 0 || n > maxWrites {
		return failf(http.StatusBadRequest, "a batch has 1 to %d writes, not %d", maxWrites, n)
	}
	writes := make([]store.Write, len(body.Writes))
	for i := range body.Writes {
		w, err := body.Writes[i].parse(nil)
		if err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
		may := r.client.May(r.store.Name(), w.Key, true)
		if w.Op == "clear" {
			may = r.client.mayAll(r.store.Name(), "", true)
		}
		if !may {
			return errForbidden
		}
		writes[i] = w
	}
	if m := s.cfg.Master(r.store.Name()); m != nil {
		return r.askAll(m, writes)
	}
	a, err := r.store.Apply(r.Context(), r.who(), writes...)
	if err != nil {
		return err
	}
	if !a.Done {
		return failf(http.StatusPreconditionFailed, "the condition of write %d is not met", a.Failed)
	}
	return r.reply(map[string]any{"seq": a.Seq})
}

// list sends entries in the order of their keys.
func (s *Server) list(r *request) error {
	query := r.URL.Query()
	if query.Has("watch") {
		return s.watch(r)
	}
	prefix := query.Get("prefix")
	if !r.client.mayAll(r.store.Name(), prefix, false) {
		return errForbidden
	}
	limit := maxList
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return failf(http.StatusBadRequest, "limit is a number above 0, not %.64q", text)
		}
		limit = min(n, maxList)
	}
	var from, after event.Raw
	if prefix != "" {
		from = store.Text(prefix)
	}
	if cursor := query.Get("cursor"); cursor != "" {
		var err error
		if after, err = ParseKey(cursor); err != nil {
			return err
		}
		if from == nil || event.Compare(after, from) > 0 {
			from = after
		}
	}
	answer := struct {
		Entries []Entry `json:"entries"`
		Cursor  string  `json:"cursor,omitempty"`
	}{Entries: []Entry{}}
	size := 0
	for _, e := range r.store.List(from, limit+2) { // the one of the cursor, and one to see that there is more
		if string(e.Key) == string(after) {
			continue
		}
		if !hasPrefix(e.Key, prefix) {
			break
		}
		size += len(e.Key) + e.Value.Size()
		if n := len(answer.Entries); n == limit || n > 0 && size > listBytes {
			answer.Cursor = answer.Entries[n-1].Key
			break
		}
		answer.Entries = append(answer.Entries, newEntry(e))
	}
	return r.reply(answer)
}

func hasPrefix(key event.Raw, prefix string) bool {
	if prefix == "" {
		return true
	}
	text, _ := key.Text()
	return key.Kind() == event.String && strings.HasPrefix(string(text), prefix)
}
