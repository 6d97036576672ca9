//go:build linux

package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// target is a daemon that takes messages, with honest traffic through it.
type target struct {
	daemon   string
	process  *testkit.Process
	endpoint string          // takes messages
	as       wire.SocketType // type of a peer that sends them
	honest   traffic
}

// forTargets runs f for each daemon that takes messages, started with the given flags and a budget.
func forTargets(t *testing.T, f func(t *testing.T, d target), flags ...string) {
	t.Run("forwarder", func(t *testing.T) {
		beside(t)
		p := startForwarder(t, flags...)
		f(t, target{"forwarder", p, p.Endpoint("XSUB"), wire.PUB,
			startEvents(t, p, 1000, zmtp.Config{})})
	})
	t.Run("logger", func(t *testing.T) {
		beside(t)
		p := startLogger(t, t.TempDir(), flags...)
		f(t, target{"logger", p, p.Endpoint("PULL"), wire.PUSH,
			startLogs(t, p, p.Endpoint("PULL"), zmtp.Config{})})
	})
	t.Run("balance", func(t *testing.T) {
		beside(t)
		logger := startLogger(t, t.TempDir())
		p := startDaemon(t, "balance", append(flags, "--to", logger.Endpoint("PULL"))...)
		f(t, target{"balance", p, p.Endpoint("PULL"), wire.PUSH,
			startLogs(t, logger, p.Endpoint("PULL"), zmtp.Config{})})
	})
}

// startDaemon starts a daemon with the memory budget.
func startDaemon(t *testing.T, command string, flags ...string) *testkit.Process {
	t.Helper()
	return testkit.StartDaemon(t, zmtpd, append([]string{command, budgetFlag}, flags...)...)
}

func startForwarder(t *testing.T, flags ...string) *testkit.Process {
	t.Helper()
	return startDaemon(t, "forwarder", flags...)
}

func startLogger(t *testing.T, dir string, flags ...string) *testkit.Process {
	t.Helper()
	return startDaemon(t, "logger",
		append([]string{"--dir", dir, "--flush-interval", "50ms"}, flags...)...)
}

// Sizes near the largest that a header can hold, where sums overflow, end only the connection, even
// without a limit on messages.
func TestHugeSizes(t *testing.T) {
	beside(t)
	var headers [][]byte
	for _, size := range []uint64{1<<63 - 10, 1<<63 - 1, 1<<62 + 1, 1 << 63, 1<<64 - 1} {
		for _, flags := range []byte{0x02, 0x03, 0x06} {
			header := binary.BigEndian.AppendUint64([]byte{flags}, size)
			headers = append(headers, header, append([]byte{0x01, 1, 'a'}, header...))
		}
	}
	forTargets(t, func(t *testing.T, d target) {
		a := assault{
			name: "sizes near 2^63", daemon: d.daemon,
			inputs:  fmt.Sprintf("%d headers, --max-message-size 0", len(headers)),
			process: d.process, honest: d.honest,
		}
		a.run = func(t *testing.T, _ context.Context) {
			for _, header := range headers {
				c, err := connect(d.endpoint, d.as)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = c.Write(append(header, "some of the body"...)); err == nil {
					err = closed(c)
				}
				if err != nil {
					t.Errorf("% x: %v", header, err)
				}
				c.Close()
			}
		}
		a.start(t)
	}, "--max-message-size", "0")
}

// An empty part takes two bytes on the wire. A message of empty parts must not take more memory
// than others of its size.
func TestEmptyParts(t *testing.T) {
	beside(t)
	parts := scaled(4<<20, 33_000_000)
	forTargets(t, func(t *testing.T, d target) {
		a := assault{
			name: "empty parts", daemon: d.daemon,
			inputs:  fmt.Sprintf("4 messages of %d parts", parts),
			process: d.process, honest: d.honest,
		}
		a.run = func(t *testing.T, ctx context.Context) {
			empty := bytes.Repeat([]byte{0x01, 0}, 32<<10)
			var all sync.WaitGroup
			defer all.Wait()
			for range 4 {
				all.Go(func() {
					c, err := connect(d.endpoint, d.as)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					if pour(ctx, c, empty, 2*parts) == 2*parts {
						c.Write([]byte{0, 0})
						<-ctx.Done()
					}
				})
			}
		}
		a.start(t)
	})
}

// Unfinished messages count against the budget. Honest peers still have room.
func TestUnfinishedMessages(t *testing.T) {
	beside(t)
	const size = 60 << 20
	peers := scaled(6, 25)
	forTargets(t, func(t *testing.T, d target) {
		var poured atomic.Int64
		a := assault{
			name: "unfinished messages", daemon: d.daemon,
			inputs:  fmt.Sprintf("%d peers, %d MiB each", peers, size>>20),
			process: d.process, honest: d.honest,
		}
		a.run = func(t *testing.T, ctx context.Context) {
			body := make([]byte, 256<<10)
			var all sync.WaitGroup
			defer all.Wait()
			for range peers {
				all.Go(func() {
					c, err := connect(d.endpoint, d.as)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					c.Write(wire.AppendHeader(nil, 0, size))
					poured.Add(int64(pour(ctx, c, body, size-1)))
					<-ctx.Done()
				})
			}
		}
		a.start(t)
		t.Logf("the daemon accepted %d MiB", poured.Load()>>20)
	})
}
