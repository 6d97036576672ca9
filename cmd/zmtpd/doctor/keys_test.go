package doctor

import (
	"context"

	"zmtpd/curve"
	"zmtpd/zmtp/zap"
)

// onlyKey admits one client.
type onlyKey curve.Key

// Authenticate implements zap.Handler.
func (k onlyKey) Authenticate(_ context.Context, r *zap.Request) (zap.Reply, error) {
	if len(r.Credentials) == 1 && string(r.Credentials[0]) == string(k[:]) {
		return zap.Reply{Status: 200, Text: "OK"}, nil
	}
	return zap.Reply{Status: 400, Text: "unknown"}, nil
}
