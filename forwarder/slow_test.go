package forwarder

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// trickle is a subscriber that reads a little now and then, as long as its connection lasts.
type trickle struct {
	mu  sync.Mutex
	got []byte
	end error
}

// start reads at most size bytes of r every interval, and after hurry is closed as fast as they
// come.
func (k *trickle) start(r io.Reader, size int, interval time.Duration, hurry <-chan struct{}) {
	go func() {
		buf := make([]byte, size)
		for {
			n, err := r.Read(buf)
			k.mu.Lock()
			k.got, k.end = append(k.got, buf[:n]...), err
			k.mu.Unlock()
			if err != nil {
				return
			}
			select {
			case <-hurry:
			case <-time.After(interval):
			}
		}
	}()
}

// all returns what it has received so far, in the form of a collector.
func (k *trickle) all(t *testing.T) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := new(collector)
	for _, m := range messages(t, k.got) {
		c.add(m)
	}
	return c.all()
}

// A subscriber reads 2 KiB/s, steadily, while some 13 KiB/s are published for two minutes. The
// policy decides what it gets. The other subscriber gets everything, the queue stays within its
// limits, and the log names the slow one.
func TestTrickle(t *testing.T) {
	for _, policy := range []Policy{Adaptive, Block, Drop, Disconnect} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 64 << 10
				c := newCrowd(t, Config{Overload: policy, XPub: zmtp.Config{SendBytes: limit}})
				defer c.close(t)
				synctest.Wait()
				address := c.youngest(t).Remote.String()
				slow, hurry := new(trickle), make(chan struct{})
				slow.start(c.stuck, 512, 250*time.Millisecond, hurry)

				body := strings.Repeat("x", 1<<10)
				var want []string
				begin := time.Now()
				for i := range 1500 {
					want = append(want, fmt.Sprintf("t|%d|%s", i, body))
					<-c.publish(c.pub, want[i:])
					time.Sleep(80 * time.Millisecond)
					for _, st := range c.Stats().Subscribers {
						if st.Queued > crowdHWM || st.QueuedBytes > limit {
							t.Fatalf("the queue exceeds its limits: %+v", st)
						}
					}
				}
				took := time.Since(begin)
				equal(t, "healthy", c.healthy.all(), want[:len(c.healthy.all())])
				published := 1500 * 80 * time.Millisecond
				switch {
				case policy == Block && took < 2*published,
					policy == Adaptive && took > published*11/10,
					policy > Block && took > published:
					t.Errorf("the publisher took %v, unhindered it takes %v", took, published)
				}
				var st SubscriberStats
				for _, s := range c.Stats().Subscribers {
					if s.Remote.String() == address {
						st = s
					}
				}
				text := map[Policy]string{Adaptive: string(losesMessages),
					Block: string(isWaitedFor), Drop: string(losesMessages),
					Disconnect: "disconnected"}[policy]
				if lines := c.logs.matching(text, address, stuckID); len(lines) != 1 ||
					len(c.logs.lines) != 1 {
					t.Errorf("log: %q", c.logs.lines)
				}
				if policy == Block &&
					(st.NodeID != stuckID || st.Blocked < took/2 || st.Dropped.Total() > 0 ||
						st.SlowSince.IsZero()) {
					t.Errorf("%+v", st)
				}
				if (policy == Adaptive || policy == Drop) &&
					(st.NodeID != stuckID || st.Dropped.Total() < 1000) {
					t.Errorf("%+v", st)
				}

				// the subscriber catches up
				close(hurry)
				time.Sleep(3 * holdWindow)
				synctest.Wait()
				equal(t, "healthy", c.healthy.all(), want)
				got := slow.all(t)
				switch policy {
				case Block:
					equal(t, "slow", got, want)
				case Adaptive, Drop:
					if len(got)+int(st.Dropped.Total()) != len(want) {
						t.Errorf("%d received, %d dropped, of %d", len(got), st.Dropped.Total(),
							len(want))
					}
					at := 0
					for _, m := range got {
						i := slices.Index(want[at:], m)
						if i < 0 {
							t.Fatalf("%.10q is not in order", m)
						}
						at += i + 1
					}
				case Disconnect:
					equal(t, "slow", got, want[:len(got)])
					if st := c.Stats(); st.XPub.Closed[wire.SlowConsumer] != 1 || slow.end == nil {
						t.Errorf("closed: %v, read: %v", st.XPub.Closed, slow.end)
					}
				}
				if policy != Disconnect &&
					len(c.logs.matching("has caught up", address, stuckID)) != 1 {
					t.Errorf("log: %q", c.logs.lines)
				}
			})
		})
	}
}

// A subscriber that loses messages again and again is logged once.
func TestLossIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Drop})
		defer c.close(t)
		slow, hurry := new(trickle), make(chan struct{})
		defer close(hurry)
		slow.start(c.stuck, 2000, 4*time.Second, hurry)
		for i := range 1000 {
			<-c.publish(c.pub, sequence("t", i, i+1))
			time.Sleep(5 * time.Millisecond)
		}
		if len(c.logs.matching("loses messages", stuckID)) != 1 || len(c.logs.lines) != 1 {
			t.Errorf("log: %q", c.logs.lines)
		}
		c.stuck.Close()
		synctest.Wait()
		if len(c.logs.matching("gone", stuckID)) != 1 || len(c.logs.lines) != 2 {
			t.Errorf("log: %q", c.logs.lines)
		}
	})
}

// Publishers that begin and end waits for a subscriber take nothing from the time for which another
// publisher waits. If nobody waits, or nobody looks because the machine is busy, no time counts.
func TestTimeWaitedForSubscriber(t *testing.T) {
	const queue, begun = 1000, 1e9
	for name, c := range map[string]struct {
		waiters int           // publishers that wait all the time
		others  int           // publishers that wait for a moment before each look
		rate    float64       // queues that the subscriber takes in a second
		every   time.Duration // from look to look
		lags    bool
	}{
		"one waits":                     {1, 0, 5, waitTick, true},
		"one waits among others":        {1, 3, 5, waitTick, true},
		"nobody waits for long":         {0, 3, 5, waitTick, false},
		"one waits, of a fast one":      {1, 3, 60, waitTick, false},
		"one waits, on a busy machine":  {1, 0, 5, 20 * waitTick, false},
		"one waits, among busy others":  {1, 3, 5, 20 * waitTick, false},
		"nobody waits, on busy machine": {0, 0, 5, 20 * waitTick, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(begun, 0)
			p := pace{at: now, looked: now, waiters: c.waiters}
			lags := false
			for elapsed := c.every; elapsed < 3*time.Second; elapsed += c.every {
				now = time.Unix(begun, 0).Add(elapsed)
				written := uint64(c.rate * elapsed.Seconds() * queue)
				for range c.others {
					p.look(now.Add(-time.Microsecond), queue, written)
					p.wait(now.Add(-time.Microsecond), 1)
				}
				lags = p.look(now, queue, written)
				p.wait(now, -c.others)
			}
			if lags != c.lags {
				t.Errorf("lags: %v, want %v: %+v", lags, c.lags, p)
			}
		})
	}
}

// Publishers that look at a subscriber at the same time do not take it for a fast one.
func TestSubscriberIsLookedAtFromManyGoroutines(t *testing.T) {
	b := newBroker(t, Config{})
	defer b.Close()
	r := b.dialRaw(t, xpubAddr, wire.SUB)
	defer r.Close()
	r.subscribe("t", true)
	testkit.Eventually(t, "the subscription", func() bool { return b.Stats().Topics == 1 })
	b.mu.Lock()
	var s *subscriber
	for s = range b.subscribers {
	}
	b.mu.Unlock()
	go io.Copy(io.Discard, r)
	pub := b.dialRaw(t, xsubAddr, wire.PUB)
	defer pub.Close()
	go io.Copy(io.Discard, pub)
	var lookers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		lookers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					s.look(time.Now())
				}
			}
		})
	}
	const count, size = 2000, 1000
	for range count {
		pub.send("t", strings.Repeat("x", size))
	}
	testkit.Eventually(t, "all messages to be sent", func() bool {
		return s.peer.Stats().Out.Messages == count
	})
	close(done)
	lookers.Wait()
	if s.pace.queues > count*2*size {
		t.Errorf("it took %g queues, of %d messages", s.pace.queues, count)
	}
}
