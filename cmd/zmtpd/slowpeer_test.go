package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// One line of the log, the metrics and the status name a slow subscriber by address, node id and
// client. The others get everything.
func TestSlowPeerIsNamed(t *testing.T) {
	const nodeID = "zeromq_worker-1_host_4711_Nabc"
	lines := map[string]map[string]string{
		"never reads": {
			"adaptive":   "slow subscriber: it loses messages",
			"block":      "slow subscriber: publishers wait",
			"drop":       "slow subscriber: it loses messages",
			"disconnect": "slow subscriber: it is disconnected",
		},
		"reads a trickle": {
			"adaptive":   "slow subscriber: it loses messages",
			"block":      "slow subscriber: publishers wait",
			"drop":       "slow subscriber: it loses messages",
			"disconnect": "slow subscriber: it is disconnected",
		},
	}
	for how, policies := range lines {
		for policy, line := range policies {
			t.Run(how+" "+policy, func(t *testing.T) {
				t.Parallel()
				keys := newKeyFolder(t)
				server := keys.addServer("server")
				config := func(name string) zmtp.Config {
					public, secret := curve.GenerateKeyPair()
					keys.add(name, public)
					return client(t, server, secret)
				}
				slowConfig, healthyConfig, publisherConfig := config("sleepy"), config("healthy"),
					config("publisher")
				d := startDaemon(t,
					append([]string{"forwarder", "--xsub", "tcp://127.0.0.1:*", "--xpub",
						"tcp://127.0.0.1:*",
						"--overload", policy, "--sndhwm", "100"}, keys.flags()...)...)
				subscribe := func(c zmtp.Config, topics ...string) *zmtp.Sub {
					s := zmtp.NewSub(c)
					t.Cleanup(func() { s.Close() })
					for _, topic := range topics {
						s.Subscribe(topic)
					}
					if err := s.Connect(d.Endpoint("XPUB")); err != nil {
						t.Fatal(err)
					}
					return s
				}
				slowConfig.RecvHWM, slowConfig.RecvBuffer = 1, 64<<10
				slow := subscribe(slowConfig, "t", "zeek.cluster.nodeid."+nodeID+".")
				healthy := subscribe(healthyConfig, "t")
				pub := zmtp.NewXPub(publisherConfig, zmtp.XPubOptions{NoDrop: true})
				t.Cleanup(func() { pub.Close() })
				if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "all subscriptions are known", func() bool {
					topics := 0 // both have "t", and the slow one its node id
					for _, p := range d.status().Forwarder.XPub.Peers {
						topics += p.Topics
					}
					return topics == 3 && pub.Topics() == 2
				})
				var address string
				for _, p := range d.status().Forwarder.XPub.Peers {
					if p.Client == "sleepy" {
						address = p.Address
					}
				}

				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var got, sent atomic.Int64
				go func() {
					for m, err := range healthy.All(ctx) {
						if err != nil || string(m.Part(1)) != fmt.Sprint(got.Load()) {
							if ctx.Err() == nil {
								t.Errorf("the healthy one got message %s, error %v, want %d",
									m.Part(1),
									err, got.Load())
							}
							return
						}
						got.Add(1)
					}
				}()
				hurry := make(chan struct{})
				if how == "reads a trickle" {
					go func() {
						for range slow.All(ctx) {
							select {
							case <-time.After(200 * time.Millisecond): // for a busy machine
							case <-hurry:
							case <-ctx.Done():
							}
						}
					}()
				}
				publishing := make(chan struct{})
				go func() {
					defer close(publishing)
					body := make([]byte, 16<<10)
					for ctx.Err() == nil {
						// otherwise, with two of the policies, the healthy one would lose messages
						// as well
						if sent.Load()-got.Load() > 50 {
							select {
							case <-time.After(100 * time.Microsecond):
							case <-ctx.Done():
							}
							continue
						}
						if pub.Send(ctx,
							zmtp.NewMessage([]byte("t"), fmt.Append(nil, sent.Load()),
								body)) == nil {
							sent.Add(1)
						}
					}
				}()
				words := []string{line, "peer=" + address, "client=sleepy", "node=" + nodeID}
				testkit.Eventually(t, fmt.Sprintf("a line of the log with %q", words), func() bool {
					return logged(d.Stderr.String(), words...) > 0
				})
				if policy != "disconnect" {
					labels := fmt.Sprintf(`{client="sleepy",node=%q,peer=%q}`, nodeID, address)
					if queue := d.Metric("zmtpd_forwarder_slow_subscriber_queue_messages" +
						labels); queue > 100 {
						t.Errorf("%v messages wait, the limit is 100", queue)
					}
					testkit.Eventually(t, "it is the first in the status, as the slowest",
						func() bool {
							p := d.status().Forwarder.XPub.Peers[0]
							return p.Address == address && p.Client == "sleepy" &&
								p.Node == nodeID &&
								p.Queue <= 100
						})
				}
				if policy == "block" && how == "never reads" {
					slow.Close() // with it, no subscriber would get any more
				}
				close(hurry)
				testkit.Eventually(t, "the healthy one goes on",
					func() bool { return got.Load() > 500 })
				stop()
				<-publishing
				// After a while the kernel may take so much that the subscriber has caught up.
				want := 1 + logged(d.Stderr.String(), "has caught up", "client=sleepy")
				if n := logged(d.Stderr.String(), words...); n != want && n != want-1 {
					t.Errorf("%d lines, want %d", n, want)
				}
				if n := logged(d.Stderr.String(), "client=healthy", "level=WARN"); n > 0 {
					t.Error("the log names the healthy subscriber as slow")
				}
			})
		}
	}
}

// logged returns the number of lines of a log with all of the words.
func logged(log string, words ...string) (n int) {
lines:
	for line := range strings.Lines(log) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}
