package scaletest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/forwarder/netnstest"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// TestOverload has many subscribers that fail to keep up in different ways at once. Under every
// policy, the healthy ones receive everything in order, and the others receive everything that the
// policy does not drop. Queues and the broker's memory stay within limits, and the log names the
// slow subscribers.
func TestOverload(t *testing.T) {
	binary := testkit.Build(t, t.TempDir(), "zmtpd/cmd/zmtpd")
	for _, policy := range []string{"adaptive", "block", "drop", "disconnect"} {
		t.Run(policy, func(t *testing.T) { testOverload(t, binary, policy) })
	}
}

func testOverload(t *testing.T, binary, policy string) {
	h := netnstest.New(t)
	// more than the queue of a subscriber that never reads can hold
	messages := overloadHWM + kernelHolds()/overloadBody + int64(scaled(200, 800))
	// of the slowest that trickles
	rate := scaled(256<<10, 96<<10)
	sizes := [numRoles]int{healthy: scaled(4, 50), trickles: scaled(4, 100),
		neverReads: scaled(4, 100), vanishes: scaled(3, 50)}
	args := []string{
		"forwarder", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*", "--xpub",
		"tcp://" + h.Here + ":*", "--http", "127.0.0.1:0",
		"--overload", policy, "--sndhwm", fmt.Sprint(overloadHWM), "--sndbytes",
		fmt.Sprint(overloadBytes),
	}
	if policy == "block" { // nothing else finds out that a host has vanished
		args = append(args, "--heartbeat-interval", "1s")
	}
	o := startBinary(t, binary, args...)
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() {
		stop()
		for _, m := range o.members {
			m.conn.Close()
		}
	}()
	for r := range numRoles {
		for i := range sizes[r] {
			m := o.join(h, r, len(o.members))
			if r == trickles {
				m.rate = rate + rate*i/sizes[r]
			}
			o.members = append(o.members, m)
			reading.Go(m.read)
			if policy == "block" && r != vanishes {
				reading.Go(func() { m.ping(ctx) })
			}
		}
	}
	defer func() { // those that wait to begin end as well
		for _, m := range o.members {
			select {
			case <-m.begin:
			default:
				close(m.begin)
			}
		}
	}()
	pub := zmtp.NewXPub(zmtp.Config{SendHWM: 10}, zmtp.XPubOptions{NoDrop: true})
	defer pub.Close()
	if err := pub.Connect(o.xsub); err != nil {
		t.Fatal(err)
	}
	o.until("the broker knows all", func() bool {
		peers, _ := o.status()
		named := 0
		for _, p := range peers {
			if p.Node != "" {
				named++
			}
		}
		return named == len(o.members) && pub.Topics() == 1+len(o.members)
	})
	idle := int64(testkit.PeakMemory(t, o.cmd.Process.Pid))
	h.Cut()

	// The load.
	begin := time.Now()
	// under which every subscriber with a full queue loses messages
	paced := policy == "drop" || policy == "disconnect"
	published := make(chan error, 1)
	var sent atomic.Int64
	go func() {
		body := make([]byte, overloadBody)
		for i := range messages {
			for paced && i-o.slowest() > overloadHWM/2 {
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
			}
			if err := pub.Send(ctx,
				zmtp.NewMessage([]byte("t"), fmt.Append(nil, i), body)); err != nil {
				published <- err
				return
			}
			sent.Add(1)
		}
		published <- nil
	}()
	effect := map[string]string{
		"adaptive": "it loses messages", "block": "publishers wait", "drop": "it loses messages",
		"disconnect": "it is disconnected",
	}[policy]
	const slow = "slow subscriber: "
	// With block, publishers wait for the first full queue; the other queues need not be full.
	o.until("the log names those that never read", func() bool {
		named := 0
		for _, m := range o.of(neverReads) {
			named += min(1, o.named(m, slow+effect))
		}
		return named == sizes[neverReads] || policy == "block" && named > 0
	})
	if policy == "block" {
		for _, m := range o.of(neverReads) {
			close(m.begin)
		}
	}
	o.until("the healthy ones have everything", func() bool { return o.slowest() == messages })
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)

	// The queued messages arrive once the subscribers read.
	for _, m := range o.members {
		close(m.hurry)
		if m.role == neverReads && policy != "block" {
			close(m.begin)
		}
	}
	var peers map[string]peerState
	var closed map[string]int
	dropped := func(m *member) (n int64) {
		for _, one := range peers[m.address()].Dropped {
			n += one
		}
		return n
	}
	o.until("everybody has everything that was not dropped", func() bool {
		peers, closed = o.status()
		for _, m := range o.members {
			if m.role == vanishes || policy == "disconnect" && m.role != healthy {
				continue
			}
			select {
			case <-m.ended:
				t.Fatalf("the connection of a subscriber that %s has ended: %v", roleNames[m.role],
					m.err)
			default:
			}
			if m.got.Load()+dropped(m) != messages {
				return false
			}
		}
		return true
	})
	if policy == "disconnect" {
		for _, m := range append(o.of(trickles), o.of(neverReads)...) {
			if <-m.ended; m.err != nil || m.holes.Load() > 0 {
				t.Errorf("before it was disconnected: %d messages, %d missing between them, %v",
					m.got.Load(), m.holes.Load(), m.err)
			}
		}
	}

	// The losses of each subscriber.
	for _, m := range o.members {
		switch n := dropped(m); {
		case n > 0 && (m.role == healthy || policy == "block"):
			t.Errorf("a subscriber that %s lost %d messages", roleNames[m.role], n)
		case n == 0 && m.role != healthy && policy == "drop",
			n == 0 && m.role >= neverReads && policy == "adaptive":
			t.Errorf("a subscriber that %s lost nothing", roleNames[m.role])
		}
		if _, there := peers[m.address()]; there != (m.role == healthy || policy == "adaptive" ||
			policy == "drop" || policy == "block" && m.role != vanishes) {
			t.Errorf("a subscriber that %s is connected: %v", roleNames[m.role], there)
		}
	}
	switch expelled := len(o.members) - sizes[healthy]; {
	case policy == "disconnect" && closed["slow_consumer"] != expelled:
		t.Errorf("closed %v, want %d because they are slow", closed, expelled)
	case policy == "block" && closed["heartbeat_timeout"] != sizes[vanishes]:
		t.Errorf("closed %v, want %d that have vanished", closed, sizes[vanishes])
	}

	// The subscribers that the log names.
	for _, m := range o.members {
		named := o.named(m, slow)
		switch {
		case m.role == healthy && policy != "block" && named > 0:
			t.Errorf("the log complains of a healthy subscriber, %s", m.node())
		case m.role >= neverReads && policy != "block" && named == 0,
			m.role == trickles && paced && named == 0:
			t.Errorf("the log does not name a subscriber that %s", roleNames[m.role])
		}
	}
	// Memory: the limits of the queues, and an allowance for the rest.
	peak, limit := int64(testkit.PeakMemory(t, o.cmd.Process.Pid)),
		idle+int64(len(o.members))*overloadBytes+64<<20
	t.Logf("%d healthy, %d trickle, %d never read, %d vanish: %d messages of %d KiB in %v, "+
		"memory %d MiB, then at most %d MiB of %d",
		sizes[healthy], sizes[trickles], sizes[neverReads], sizes[vanishes], messages,
		overloadBody>>10, took.Round(time.Millisecond),
		idle>>20, peak>>20, limit>>20)
	if peak > limit {
		t.Errorf("the broker took %d MiB, more than %d", peak>>20, limit>>20)
	}
}
