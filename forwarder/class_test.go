package forwarder

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

func TestClassName(t *testing.T) {
	for topic, want := range map[string]string{
		"zeek.cluster.worker":          "zeek.cluster.worker",
		"zeek.cluster.nodeid.a_b.":     "zeek.cluster.nodeid.__normalized__",
		"zeek/cluster/nodeid/a_b/":     "zeek/cluster/nodeid/__normalized__",
		"zeek.cluster.nodeid.":         "zeek.cluster.nodeid.__normalized__",
		"zeek.cluster.nodeid":          "zeek.cluster.nodeid",
		"":                             "",
		strings.Repeat("x", 1000):      OtherTopics,
		"zeek.cluster.node.worker-01.": "zeek.cluster.node.worker-01.",
	} {
		if got := className([]byte(topic)); got != want {
			t.Errorf("%q is of class %q, want %q", topic, got, want)
		}
	}
}

// The counts of published messages by class are right for batches with several topics.
func TestTopicStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Drop})
		defer c.close(t)
		<-c.publish(c.pub, []string{"t|1", "t|22", "nobody|1", "zeek.cluster.nodeid.a.|x", "t|1",
			"zeek.cluster.nodeid.b.|x", "\xff|1"})
		st := c.Stats()
		for class, want := range map[string]TopicStats{
			"t":                                  {3, 7, 0, zmtp.Drops{}},
			"nobody":                             {1, 7, 1, zmtp.Drops{}},
			"zeek.cluster.nodeid.__normalized__": {2, 46, 2, zmtp.Drops{}},
			"\uFFFD":                             {1, 2, 1, zmtp.Drops{}},
		} {
			if got := st.ByTopic[class]; got != want {
				t.Errorf("class %s: %+v, want %+v", class, got, want)
			}
		}
		if len(st.ByTopic) != 4 {
			t.Errorf("classes: %v", st.ByTopic)
		}

		<-c.publish(c.pub, sequence("t", 0, 1000))
		st = c.Stats()
		if lost := c.youngestDropped(t); lost == 0 ||
			st.ByTopic["t"].Dropped[zmtp.DropFull] < lost {
			t.Errorf("the stuck subscriber lost %d, and its topic %+v", lost,
				st.ByTopic["t"])
		}

		// The number of labels is bounded. Zeek's own classes keep their labels, whatever peers
		// publish.
		for i := range 2 * maxClasses {
			<-c.publish(c.pub, []string{fmt.Sprintf("random%d|x", i)})
		}
		<-c.publish(c.pub, []string{"zeek.cluster.manager|x"})
		st = c.Stats()
		if n := len(st.ByTopic); n > maxClasses {
			t.Errorf("%d classes", n)
		}
		if st.ByTopic[OtherTopics].Messages < maxClasses ||
			st.ByTopic["zeek.cluster.manager"].Messages != 1 {
			t.Errorf("others: %+v, manager: %+v", st.ByTopic[OtherTopics],
				st.ByTopic["zeek.cluster.manager"])
		}
		var sum uint64
		for _, s := range st.ByTopic {
			sum += s.Messages
		}
		if sum != st.XSub.In.Messages {
			t.Errorf("%d messages in all classes, %d were received", sum, st.XSub.In.Messages)
		}
	})
}

func (c *crowd) youngestDropped(t *testing.T) uint64 { return c.youngest(t).Dropped.Total() }

// The time of a wait counts for the subscriber that causes it and for the publisher that waits.
func TestBlockedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{})
		defer c.close(t)
		<-c.publish(c.pub, sequence("t", 0, 1000))
		synctest.Wait()
		if st := c.youngest(t); st.Blocked < defaultBudget/2 || st.Blocked > defaultBudget {
			t.Errorf("publishers have waited %v for the stuck subscriber", st.Blocked)
		}
		idle := c.dialRaw(t, xpubAddr, wire.SUB)
		defer idle.Close()
		synctest.Wait()
		if st := c.youngest(t); st.Blocked != 0 {
			t.Errorf("publishers have waited %v for an idle subscriber", st.Blocked)
		}
	})
}

// A publisher's node id comes from the events that it sends, not from messages that look like
// events.
func TestPublisherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		pub := n.dialRaw(t, xsubAddr, wire.PUB)
		defer pub.Close()
		node := func() string {
			synctest.Wait()
			return n.Stats().Publishers[0].NodeID
		}
		pub.send("t", "x", "y", "z")
		pub.send("t", "x", "broker-bin-v1")
		pub.send("t", "", "broker-bin-v1", "z")
		if got := node(); got != "" {
			t.Errorf("node id %q without an event", got)
		}
		pub.send("t", stuckID, "broker-bin-v1", "z")
		pub.send("t", "another", "broker-bin-v1", "z")
		if got := node(); got != stuckID {
			t.Errorf("node %q, want %q", got, stuckID)
		}
	})
}
