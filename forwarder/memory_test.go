package forwarder

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
)

// A hundred subscribers that do not read stay below the memory budget together, and one that reads
// gets all messages. Their topics count too. At the end no memory is in use.
func TestStalledSubscribersKeepToMemoryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, stalled = 16 << 20, 100
		budget := memory.New(limit, nil)
		n := newBroker(t, Config{
			XSub: zmtp.Config{Memory: budget}, XPub: zmtp.Config{Memory: budget, SendHWM: -1},
			Overload: Adaptive,
		})
		for range stalled {
			s := n.dialRaw(t, xpubAddr, wire.SUB)
			s.subscribe("topic", true)
			s.subscribe(strings.Repeat("long", 1000), true)
		}
		synctest.Wait()
		if used := budget.Stats().ByKind["connections"]; used < stalled*4000 {
			t.Errorf("%d bytes count for the topics", used)
		}
		healthy := zmtp.NewSub(n.peerConfig())
		if err := healthy.Subscribe("topic"); err != nil {
			t.Fatal(err)
		}
		if err := healthy.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		pub := n.dialRaw(t, xsubAddr, wire.PUB)
		synctest.Wait()
		for i := range 800 {
			size := []int{1000, 1000, 1000, 50_000}[i%4]
			pub.send("topic", strings.Repeat("x", size))
			if m, err := healthy.Recv(t.Context()); err != nil || len(m.Part(1)) != size {
				t.Fatal(i, err)
			}
		}
		// Each may have one chunk of 64 KiB beyond the limit.
		if st := budget.Stats(); st.Peak > limit+stalled*64<<10 || st.Peak < limit/2 {
			t.Errorf("%+v", st)
		}
		// Nothing is published for a while, but the stalled ones have not caught up.
		time.Sleep(10 * minTrial)
		if slow, fast := n.logs.matching(string(losesMessages)),
			n.logs.matching("has caught up"); len(slow) == 0 ||
			len(fast) > 0 {
			t.Errorf("%d are said to be slow, and %d to have caught up", len(slow), len(fast))
		}
		healthy.Close()
		n.Close()
		synctest.Wait()
		if st := budget.Stats(); st.Used != 0 || st.Holders != 0 {
			t.Errorf("in the end: %+v", st)
		}
	})
}
