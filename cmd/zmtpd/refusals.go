package main

import (
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/zap"
)

// refusalLog logs who was refused: each client once in refusalWindow, since a client tries again for ever, and not more
// than maxRefusals of them, since keys cost nothing.
type refusalLog struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time           // guarded by mu; of the window
	seen  map[string]struct{} // guarded by mu; logged in it
	more  uint64              // guarded by mu; not logged in it
}

const (
	refusalWindow = time.Minute
	maxRefusals   = 20
)

// add notes that a client was refused.
func (l *refusalLog) add(req *zap.Request, reply zap.Reply, err error) {
	who := req.Address
	credential := ""
	if req.Mechanism == "CURVE" && len(req.Credentials) == 1 {
		if key, err := curve.ParseKey(req.Credentials[0]); err == nil {
			credential = key.String()
		} else {
			credential = hex.EncodeToString(req.Credentials[0][:min(64, len(req.Credentials[0]))])
		}
		who += " " + credential
	}
	more, ok := l.admit(who + " " + req.Domain)
	if !ok {
		return
	}
	attrs := []any{"socket", req.Domain, "peer", req.Address}
	if credential != "" {
		attrs = append(attrs, "key", credential)
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	} else {
		attrs = append(attrs, "status", reply.Status, "reason", reply.Text)
	}
	if more > 0 {
		attrs = append(attrs, "others", more)
	}
	l.log.Warn("client refused", attrs...)
}

// admit reports whether a refusal is to be logged, and how many were not in the window before.
func (l *refusalLog) admit(who string) (more uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) > refusalWindow {
		more, l.more = l.more, 0
		l.since, l.seen = now, map[string]struct{}{}
	}
	if _, ok := l.seen[who]; ok {
		return 0, false
	}
	if len(l.seen) >= maxRefusals {
		l.more++
		return 0, false
	}
	l.seen[who] = struct{}{}
	return more, true
}
