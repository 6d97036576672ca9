package forwarder

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestReconfigure changes the policy while a publisher waits for ever.
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
				c.Reconfigure(policy, 0)
				begin := time.Now()
				<-done
				synctest.Wait()
				if d := time.Since(begin); d > 2*DefaultStallTimeout {
					t.Errorf("the publisher waited another %v", d)
				}
				if policy == Adaptive { // under the others the healthy one may lose something as well: the batch is larger than its queue
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
