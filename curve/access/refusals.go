package access

import (
	"encoding/hex"
	"log/slog"

	"zmtpd/curve"
	"zmtpd/zmtp/loglimit"
	"zmtpd/zmtp/zap"
)

// maxRefusals bounds the refused clients that are logged in a [loglimit.Window]: a client can make
// any number of keys.
const maxRefusals = 20

// refusalLog logs refused clients.
type refusalLog struct {
	log   *slog.Logger
	limit *loglimit.Limiter
}

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log, loglimit.New(maxRefusals)}
}

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
	more, ok := l.limit.Admit("", id+" "+req.Domain)
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
