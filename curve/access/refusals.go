package access

import (
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/zap"
)

// refusalLog logs refused clients: each once in refusalWindow, since a client tries again for ever,
// and at most maxRefusals of them, since a client can make any number of keys.
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

// add logs a refusal.
func (l *refusalLog) add(req *zap.Request, reply zap.Reply, err error) {
	id := req.Address
	credential := ""
	if req.Mechanism == "CURVE" && len(req.Credentials) == 1 {
		if key, err := curve.ParseKey(req.Credentials[0]); err == nil {
			credential = key.String()
		} else {
			credential = hex.EncodeToString(req.Credentials[0][:min(64, len(req.Credentials[0]))])
		}
		id += " " + credential
	}
	more, ok := l.admit(id + " " + req.Domain)
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

// admit reports whether to log a refusal, and how many of the window before were not logged.
func (l *refusalLog) admit(id string) (more uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) > refusalWindow {
		more, l.more = l.more, 0
		l.since, l.seen = now, map[string]struct{}{}
	}
	if _, ok := l.seen[id]; ok {
		return 0, false
	}
	if len(l.seen) >= maxRefusals {
		l.more++
		return 0, false
	}
	l.seen[id] = struct{}{}
	return more, true
}
