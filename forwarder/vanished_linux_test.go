package forwarder

import (
	"testing"
	"time"

	"zmtpd/forwarder/netnstest"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// The host of a subscriber vanishes without a FIN. The other subscribers get everything that the
// policy does not drop.
func TestVanishedHost(t *testing.T) {
	for _, policy := range []Policy{Adaptive, Block, Drop, Disconnect} {
		t.Run(policy.String(), func(t *testing.T) {
			h := netnstest.New(t)
			cfg := stageConfig(policy)
			logs := new(logBook)
			cfg.Logger = logs.logger()
			if policy == Block { // only heartbeats can notice it
				// A busy machine may keep the healthy subscriber from answering for a while.
				cfg.XPub.HeartbeatInterval = 500 * time.Millisecond
				cfg.XPub.HeartbeatTimeout = 5 * time.Second
			}
			s := newStageOn(t, cfg, h.Here, h.Dial)
			s.stuck.subscribe("zeek.cluster.nodeid."+stuckID+".", true)
			testkit.Eventually(t, "the node is known",
				func() bool { return s.other().NodeID == stuckID })
			address := s.stuck.LocalAddr().String()
			h.Cut()

			const n = 2000 // 8 MiB, far more than the kernel and the queue can hold
			if err := s.send(n, policy != Block); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the healthy subscriber has got everything",
				func() bool { return s.got.Load() == n })

			st := s.Stats()
			switch policy {
			case Adaptive, Drop:
				lost := s.other()
				if lost.Dropped.Total() == 0 || lost.Queued > stageHWM ||
					lost.QueuedBytes > stageHWM*(5<<10) {
					t.Errorf("the subscriber on the vanished host: %+v", lost)
				}
				if st.XPub.Dropped[zmtp.DropFull] != lost.Dropped.Total() {
					t.Errorf("other subscribers lost messages: %v in all, this one %d",
						st.XPub.Dropped,
						lost.Dropped)
				}
			case Block:
				if st.XPub.Closed[wire.HeartbeatTimeout] != 1 {
					t.Errorf("closed: %v", st.XPub.Closed)
				}
			case Disconnect:
				testkit.Eventually(t, "the connection of the vanished host is closed",
					func() bool { return s.Stats().XPub.Closed[wire.SlowConsumer] == 1 })
			}
			if len(logs.matching(address, stuckID)) == 0 {
				t.Errorf("the log does not name the subscriber: %q", logs.lines)
			}
			s.Close() // an orderly end would wait for what the host has not taken
		})
	}
}
