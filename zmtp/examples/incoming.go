package main

import (
	"context"
	"strings"

	"zmtpd/zmtp"
)

// receiver is a socket that receives.
type receiver interface {
	Recv(context.Context) (zmtp.Message, error)
}

// incoming makes a channel of what a socket receives, for a loop that selects over several sockets
// and timers. It takes one message ahead of the loop. The channel is closed when ctx ends or the
// socket is closed.
func incoming(ctx context.Context, s receiver) <-chan zmtp.Message {
	c := make(chan zmtp.Message)
	go func() {
		defer close(c)
		for {
			m, err := s.Recv(ctx)
			if err != nil {
				return
			}
			select {
			case c <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// cutParts takes n parts off m. It reports false, and returns m, if there are not more than n.
func cutParts(m zmtp.Message, n int) (parts [][]byte, rest zmtp.Message, ok bool) {
	if m.NumParts() <= n {
		return nil, m, false
	}
	rest = m
	for range n {
		var part []byte
		part, rest = rest.CutPart()
		parts = append(parts, part)
	}
	return parts, rest, true
}

func countWords(s string) int { return len(strings.Fields(s)) }
