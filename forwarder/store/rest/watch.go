package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"zmtpd/forwarder/store"
)

// watch sends changes until the client goes. The id of an event tells the run of the store and the
// number of the change.
func (s *Server) watch(r *request) error {
	query := r.URL.Query()
	prefix := query.Get("prefix")
	if !r.client.mayAll(r.store.Name(), prefix, false) {
		return errForbidden
	}
	after := r.store.Stats().Seq
	last, behind := r.Header.Get("Last-Event-ID"), query.Get("after")
	if epoch, seq, ok := strings.Cut(last, "-"); ok {
		if epoch != fmt.Sprintf("%x", r.store.Epoch()) {
			return failf(http.StatusGone, "the store was opened again: read its entries first")
		}
		behind = seq
	}
	if behind != "" {
		var err error
		if after, err = strconv.ParseUint(behind, 10, 64); err != nil {
			return failf(http.StatusBadRequest, "after is the number of a change, not %.64q", behind)
		}
	}
	if s.watches.Add(1) > int64(s.cfg.MaxWatches) {
		s.watches.Add(-1)
		return failf(http.StatusServiceUnavailable, "too many watches are under way")
	}
	defer s.watches.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.end, cancel)()
	r.w.Header().Set("Content-Type", "text/event-stream")
	r.w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(r.w)
	send := func(text []byte) bool {
		flush.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err := r.w.Write(text)
		return err == nil && flush.Flush() == nil
	}
	if !send([]byte(": watching\n\n")) {
		return nil
	}
	for w := r.store.Watch(after); ; {
		wait, done := context.WithTimeout(ctx, keepAlive)
		changes, err := w.Next(wait)
		done()
		var text []byte
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			text = []byte(": still here\n\n")
		case err != nil:
			message, _ := json.Marshal(map[string]string{"detail": err.Error()})
			send(fmt.Appendf(nil, "event: error\ndata: %s\n\n", message))
			return nil
		}
		for _, c := range changes {
			if c.Kind == store.Clear || hasPrefix(c.Key, prefix) {
				line, err := json.Marshal(newChange(c))
				if err != nil {
					return nil
				}
				text = fmt.Appendf(text, "id: %x-%d\nevent: %v\ndata: %s\n\n", r.store.Epoch(), c.Seq,
					c.Kind, line)
			}
		}
		if !send(text) {
			return nil
		}
	}
}
