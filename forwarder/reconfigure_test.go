package forwarder

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// The policy changes while a publisher waits for ever.
func TestReconfigure(t *testing.T) {
	for _, policy := range []Policy{Adaptive, Drop, Disconnect} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, Config{Overload: Block})
				defer c.close(t)
				done := c.publish(c.pub, sequence("t", 0, 1000))
				time.Sleep(time.Minute)
				if closed(done) {
					t.Fatal("the publisher did not wait")
				}
				c.Reconfigure(Config{Overload: policy, XPub: zmtp.Config{SendHWM: crowdHWM}})
				begin := time.Now()
				<-done
				synctest.Wait()
				if d := time.Since(begin); d > defaultBudget {
					t.Errorf("the publisher waited for another %v", d)
				}
				// Under the other policies the healthy subscriber may lose messages as well: the
				// batch is larger than its queue.
				if policy == Adaptive {
					equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1000))
				}
				stuck := 0
				for _, s := range c.Stats().Subscribers {
					if s.NodeID == stuckID {
						stuck++
					}
				}
				if gone := stuck == 0; gone != (policy == Disconnect) {
					t.Errorf("the stuck subscriber is gone: %v", gone)
				}
			})
		})
	}
}

// The limits change while a subscriber does not read.
func TestReconfigureLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{})
		defer c.close(t)
		limit := func(hwm int, bytes int64) {
			c.Reconfigure(Config{XPub: zmtp.Config{SendHWM: hwm, SendBytes: bytes}})
			synctest.Wait()
		}
		// A publisher that waits goes on at once, and no message is lost.
		begin := time.Now()
		done := c.publish(c.pub, sequence("t", 0, 500))
		if closed(done) {
			t.Fatal("the publisher did not wait")
		}
		limit(1000, 0)
		if !closed(done) || time.Since(begin) != 0 {
			t.Error("the publisher waits although there is room")
		}
		if st := c.youngest(t); st.Dropped.Total() != 0 || !st.SlowSince.IsZero() ||
			st.Queued < 100 {
			t.Errorf("raised: %+v", st)
		}
		// Messages above the new limit stay in the queue, and no more are added.
		before := c.youngest(t)
		limit(crowdHWM, 0)
		c.publish(c.pub, sequence("t", 500, 510))
		time.Sleep(defaultBudget)
		synctest.Wait()
		st := c.youngest(t)
		if st.Queued != before.Queued || st.Dropped.Total() != 10 || st.SlowSince.IsZero() {
			t.Errorf("with a lower limit: %+v, before: %+v", st, before)
		}
		limit(-1, -1)
		<-c.publish(c.pub, sequence("t", 510, 1000))
		equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1000))
		read := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(c.stuck)
			read <- b
		}()
		synctest.Wait()
		shutdown(t, c.Forwarder)
		if got, want := <-read, joined(append(sequence("t", 0, 500),
			sequence("t", 510, 1000)...)); !bytes.Equal(got, want) {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	})
}

// The limits change while publishers wait for a subscriber that reads now and then. With the policy
// Block no message is lost, and the order stays.
func TestReconfigureLimitsAtRandom(t *testing.T) {
	type step struct {
		hwm   int
		bytes int64
		read  int
		pause time.Duration
	}
	n := 500
	if testkit.Nightly() {
		n = 2000
	}
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				hwm:   rapid.SampledFrom([]int{-1, 1, 2, 10, 50}).Draw(rt, "hwm"),
				bytes: rapid.SampledFrom([]int64{-1, 1, 100, 5000}).Draw(rt, "bytes"),
				read:  rapid.IntRange(0, 3000).Draw(rt, "read"),
				pause: time.Duration(rapid.IntRange(0, 700).Draw(rt, "pause")) * time.Millisecond,
			}
		}), 1, 20).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, Config{Overload: Block})
			defer c.close(t)
			want := sequence("t", 0, n)
			done := c.publish(c.pub, want)
			all := joined(want)
			got := make([]byte, len(all))
			at := 0
			for _, s := range steps {
				c.Reconfigure(Config{Overload: Block,
					XPub: zmtp.Config{SendHWM: s.hwm, SendBytes: s.bytes}})
				time.Sleep(s.pause)
				n, err := io.ReadAtLeast(c.stuck, got[at:min(at+s.read, len(all))],
					min(s.read, len(all)-at))
				if at += n; err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.ReadFull(c.stuck, got[at:]); err != nil {
				t.Fatal(err)
			}
			<-done
			synctest.Wait()
			if !bytes.Equal(got, all) {
				t.Error("the subscriber received other bytes than were sent")
			}
			equal(t, "healthy", c.healthy.all(), want)
			if st := c.Stats(); st.XPub.Dropped.Total() > 0 {
				t.Errorf("dropped %v", st.XPub.Dropped)
			}
		})
	})
}
