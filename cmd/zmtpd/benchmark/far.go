package benchmark

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
)

const (
	echo = 'e' // first byte of a message that comes back
	drop = 'd' // first byte of a message that does not
)

// MaxSize is the largest size of a message in bytes.
const MaxSize = 64 << 20

const (
	// queueBytes bounds a queue in bytes, so that a slow network takes little time to empty it.
	queueBytes = 4 << 20
	// farMemory bounds what the far side holds for its peers in bytes.
	farMemory = 512 << 20
	// maxConnections bounds the connections of the far side. One near side has at most two.
	maxConnections = 64
	// handshakeTimeout is the time that a connection of the far side has for its handshake.
	handshakeTimeout = 10 * time.Second
)

// NewFar returns the socket of the far side, with limits on what peers can take from it.
func NewFar(config zmtp.Config, log *slog.Logger) *zmtp.Router {
	config.MaxMessageSize = MaxSize
	config.MaxParts = 2
	config.MaxConnections = maxConnections
	config.MaxPendingHandshakes = maxConnections
	config.HandshakeTimeout = handshakeTimeout
	config.SendBytes, config.RecvBytes = queueBytes, queueBytes
	config.Memory = memory.New(farMemory, log)
	config.Logger = log
	return zmtp.NewRouter(config)
}

// Serve is the far side: it answers the peers of s until ctx ends. A peer that does not take its
// answers loses them.
func Serve(ctx context.Context, s *zmtp.Router) error {
	for {
		b, err := s.RecvBatch(ctx)
		if ctx.Err() != nil || errors.Is(err, zmtp.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for m := range b.Messages() {
			if m.NumParts() != 2 || len(m.Part(1)) == 0 || m.Part(1)[0] != echo {
				continue
			}
			// A copy: the batch is released before the answer is sent.
			if err := s.Send(ctx, zmtp.NewMessage(m.Part(0), m.Part(1))); err != nil &&
				ctx.Err() == nil {
				b.Release()
				return err
			}
		}
		b.Release()
	}
}
