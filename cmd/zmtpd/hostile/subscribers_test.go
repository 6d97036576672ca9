//go:build linux

package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// subscribers connects peers that subscribe to everything, and closes them when ctx ends.
func subscribers(t *testing.T, ctx context.Context, endpoint string, n int, do func(c net.Conn)) {
	var all sync.WaitGroup
	defer all.Wait()
	for range n {
		c, err := connect(endpoint, wire.SUB)
		if err != nil {
			t.Error(err)
			return
		}
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
		defer c.Close()
		if _, err := c.Write(wire.AppendSubscription(nil, false, true, nil)); err != nil {
			t.Error(err)
			return
		}
		all.Go(func() { do(c) })
	}
	<-ctx.Done()
}

// queue is the high-water mark of the broker: several times what honest publishers send at once,
// when a busy machine lets them go on after a pause.
var queue = scaled("400", "1000")

// Subscribers that never read take no more memory than the budget allows, and hold nobody up.
func TestStalledSubscribers(t *testing.T) {
	beside(t)
	n := scaled(20, 100)
	size := scaled(4<<10, 16<<10) // few enough bytes for a busy machine
	p := startForwarder(t, "--sndhwm", queue)
	a := assault{
		name: "stalled subscribers", daemon: "forwarder",
		inputs:  fmt.Sprintf("%d that never read, messages of %d KiB", n, size>>10),
		process: p, honest: startEvents(t, p, size, zmtp.Config{}),
	}
	a.run = func(t *testing.T, ctx context.Context) {
		subscribers(t, ctx, p.Endpoint("XPUB"), n, func(net.Conn) { <-ctx.Done() })
	}
	a.start(t)
}

// Subscribers that read a little now and then make progress for ever. All of them together hold
// publishers up for a small part of the time, whatever their number.
func TestTricklingSubscribers(t *testing.T) {
	beside(t)
	for _, n := range []int{1, 10, scaled(30, 200)} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			beside(t)
			p := startForwarder(t, "--sndhwm", queue)
			a := assault{
				name: fmt.Sprintf("trickling subscribers, %d", n), daemon: "forwarder",
				inputs:  "each reads 4 kB every 50 ms, messages of 4 KiB",
				process: p, honest: startEvents(t, p, 4<<10, zmtp.Config{}),
			}
			a.run = func(t *testing.T, ctx context.Context) {
				subscribers(t, ctx, p.Endpoint("XPUB"), n, func(c net.Conn) {
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for b := make([]byte, 4000); ; {
						select {
						case <-tick.C:
						case <-ctx.Done():
							return
						}
						c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
						io.ReadFull(c, b)
					}
				})
			}
			a.start(t)
		})
	}
}

// Endless subscriptions, to new topics or to the same ones, take no more memory than the budget
// allows, and do not affect other peers.
func TestSubscriptionFlood(t *testing.T) {
	beside(t)
	floods := map[string]func(i int) []byte{
		"other topics": func(i int) []byte {
			return wire.AppendSubscription(nil, false, true, fmt.Appendf(nil, "%01000d", i))
		},
		"on and off": func(i int) []byte {
			return wire.AppendSubscription(nil, false, i%2 == 0, []byte("on and off"))
		},
	}
	for name, next := range floods {
		t.Run(name, func(t *testing.T) {
			beside(t)
			p := startForwarder(t)
			a := assault{
				name: "subscription flood, " + name, daemon: "forwarder",
				inputs:  "4 peers, as fast as they can",
				process: p, honest: startEvents(t, p, 1000, zmtp.Config{}),
			}
			a.run = func(t *testing.T, ctx context.Context) {
				flood(t, ctx, 4, func() (net.Conn,
					error) {
					return connect(p.Endpoint("XPUB"), wire.SUB)
				}, next)
			}
			a.start(t)
		})
	}
}

// flood lets peers write what next returns, as fast as they can. They do not read what they are
// sent. A peer whose connection is closed connects again.
func flood(t *testing.T, ctx context.Context, peers int, dial func() (net.Conn, error),
	next func(i int) []byte) {
	var all sync.WaitGroup
	defer all.Wait()
	for range peers {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; {
				c, err := dial()
				if err != nil {
					// a daemon may refuse a peer that it has closed again and again
					if ctx.Err() == nil {
						time.Sleep(10 * time.Millisecond)
					}
					continue
				}
				stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
				for err == nil {
					var b []byte
					for len(b) < 64<<10 {
						b = append(b, next(i)...)
						i++
					}
					_, err = c.Write(b)
				}
				stop()
				c.Close()
			}
		})
	}
}

// A peer that sends PINGs and does not read the PONGs is no longer read.
func TestPingFlood(t *testing.T) {
	beside(t)
	forTargets(t, func(t *testing.T, d target) {
		a := assault{
			name: "PING flood", daemon: d.daemon, inputs: "4 peers that read no PONG",
			process: d.process, honest: d.honest,
		}
		ping := wire.AppendCommand(nil, wire.CmdPing, []byte("\x00\x00sixteen bytes..."))
		a.run = func(t *testing.T, ctx context.Context) {
			flood(t, ctx, 4, func() (net.Conn, error) { return connect(d.endpoint, d.as) },
				func(int) []byte { return ping })
		}
		a.start(t)
	})
}
