//go:build linux

package hostile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/pipeline/pipelinetest"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// rate is the number of messages that an honest publisher or node offers in a second. Any machine
// can carry them, also one that is busy with other tests and lets an honest subscriber wait.
var rate = scaled(200, 500)

// events are honest nodes of a cluster that publish and subscribe through a broker, as Zeek's do. A
// message that finds no room in a node's own queue is lost.
type events struct {
	t           *testing.T
	process     *testkit.Process
	publishers  []*zmtp.XPub
	subscribers []*zmtp.Sub
	addresses   []string // of subscribers
	ended       context.CancelFunc
	offering    sync.WaitGroup
	receiving   sync.WaitGroup
	sent        atomic.Int64
	full        atomic.Int64 // those of sent that found no room
	received    atomic.Int64
}

// startEvents connects to a broker and starts to publish messages of size bytes.
func startEvents(t *testing.T, p *testkit.Process, size int, config zmtp.Config) *events {
	t.Helper()
	e := &events{t: t, process: p}
	ctx, cancel := context.WithCancel(t.Context())
	e.ended = cancel
	for range 3 {
		sub := zmtp.NewSub(zmtp.Config{Mechanism: config.Mechanism})
		e.subscribers = append(e.subscribers, sub)
		if err := errors.Join(sub.Subscribe("event"),
			sub.Connect(p.Endpoint("XPUB"))); err != nil {
			t.Fatal(err)
		}
		e.receiving.Go(func() {
			for range sub.All(context.Background()) {
				e.received.Add(1)
			}
		})
	}
	for range 2 {
		pub := zmtp.NewXPub(config, zmtp.XPubOptions{NoDrop: true})
		e.publishers = append(e.publishers, pub)
		if err := pub.Connect(p.Endpoint("XSUB")); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the publisher has the subscriptions",
			func() bool { return pub.Topics() == 1 })
	}
	t.Cleanup(func() {
		cancel()
		e.offering.Wait()
		for _, s := range e.publishers {
			s.Close()
		}
		for _, s := range e.subscribers {
			s.Close()
		}
		e.receiving.Wait()
	})
	testkit.Eventually(t, "all subscribers are known",
		func() bool { return len(e.known()) == len(e.subscribers) })
	e.addresses = e.known()
	m := zmtp.NewMessage([]byte("event.node"), []byte("zeromq_honest-1_host_1_N"),
		make([]byte, size))
	for _, pub := range e.publishers {
		e.offering.Go(func() {
			pace(ctx, func() {
				e.sent.Add(1)
				if err := pub.TrySend(m); errors.Is(err, zmtp.ErrWouldBlock) {
					e.full.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
	return e
}

// known returns the addresses of the subscribers that have subscribed.
func (e *events) known() (addresses []string) {
	var s struct {
		Forwarder struct {
			XPub struct {
				Peers []struct {
					Address string
					Topics  int
				}
			}
		}
	}
	e.process.Status(&s)
	for _, p := range s.Forwarder.XPub.Peers {
		if p.Topics > 0 {
			addresses = append(addresses, p.Address)
		}
	}
	return addresses
}

// pace calls offer at the rate until ctx ends. After a delay it catches up, for at most a tenth of
// a second: such a burst fits in all queues.
func pace(ctx context.Context, offer func()) {
	interval := time.Second / time.Duration(rate)
	tick := time.NewTicker(5 * interval)
	defer tick.Stop()
	for next := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if oldest := now.Add(-time.Second / 10); next.Before(oldest) {
			next = oldest
		}
		for ; next.Before(now); next = next.Add(interval) {
			offer()
		}
	}
}

func (e *events) offered() int { return int(e.sent.Load()) * len(e.subscribers) }
func (e *events) got() int     { return int(e.received.Load()) }

func (e *events) stop() {
	e.t.Helper()
	e.ended()
	e.offering.Wait()
	sent := e.sent.Load() - e.full.Load()
	testkit.Eventually(e.t, "the broker receives what honest publishers sent", func() bool {
		var s struct {
			Forwarder struct {
				XSub struct{ Received struct{ Messages int64 } }
			}
		}
		e.process.Status(&s)
		return s.Forwarder.XSub.Received.Messages >= sent
	})
	waitArrived(e.t, e.offered, e.got)
	e.process.WantBalanced(e.addresses...)
}

// waitArrived waits until all messages that were offered have arrived. If some are lost, it waits
// until none has arrived for some seconds: a busy machine holds messages up for longer than one.
func waitArrived(t *testing.T, offered, got func() int) {
	t.Helper()
	last, since := got(), time.Now()
	testkit.Eventually(t, "all messages under way arrive", func() bool {
		now := got()
		if now != last {
			last, since = now, time.Now()
		}
		return now == offered() || time.Since(since) > 3*time.Second
	})
}

// logs are honest nodes that send log batches to a logger or a balancer.
type logs struct {
	t        *testing.T
	process  *testkit.Process // the logger
	pushes   []*zmtp.Push
	ended    context.CancelFunc
	offering sync.WaitGroup
	sent     atomic.Int64
}

// honestNode returns the id of a node that sends logs.
func honestNode(i int) string { return fmt.Sprintf("honest-%d", i) }

// honestLogs are the paths to which honest nodes write.
var honestLogs = []string{"conn", "dns", "http"}

// startLogs connects nodes to an endpoint and starts to send batches of one record, for each of
// honestLogs in turn, to the logger p.
func startLogs(t *testing.T, p *testkit.Process, endpoint string, config zmtp.Config) *logs {
	t.Helper()
	l := &logs{t: t, process: p}
	ctx, cancel := context.WithCancel(t.Context())
	l.ended = cancel
	for i := range 2 {
		push := zmtp.NewPush(config, zmtp.PushOptions{})
		l.pushes = append(l.pushes, push)
		if err := push.Connect(endpoint); err != nil {
			t.Fatal(err)
		}
		var batches []zmtp.Message
		for _, path := range honestLogs {
			batches = append(batches,
				zmtp.NewMessage(pipelinetest.Message(t, honestNode(i), "Honest::"+path, path,
					"who what", "honest")...))
		}
		next := 0
		l.offering.Go(func() {
			pace(ctx, func() {
				l.sent.Add(1)
				err := push.TrySend(batches[next%len(batches)])
				if err == nil {
					next++
				} else if !errors.Is(err, zmtp.ErrWouldBlock) {
					t.Error(err)
				}
			})
		})
	}
	t.Cleanup(func() {
		cancel()
		l.offering.Wait()
		for _, s := range l.pushes {
			s.Close()
		}
	})
	testkit.Eventually(t, "the first records are written", func() bool { return l.got() > 0 })
	return l
}

func (l *logs) offered() int { return int(l.sent.Load()) }

// got returns the number of honest nodes' records that the first sink has written.
func (l *logs) got() (n int) {
	l.t.Helper()
	var s struct {
		Logger struct {
			Sinks []struct {
				Nodes []struct {
					Node    string
					Written struct{ Records int }
				}
			}
		}
	}
	l.process.Status(&s)
	for _, node := range s.Logger.Sinks[0].Nodes {
		if slices.Contains([]string{honestNode(0), honestNode(1)}, node.Node) {
			n += node.Written.Records
		}
	}
	return n
}

func (l *logs) stop() {
	l.t.Helper()
	l.ended()
	l.offering.Wait()
	waitArrived(l.t, l.offered, l.got)
	l.process.WantBalanced()
}
