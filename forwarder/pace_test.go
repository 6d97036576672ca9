package forwarder

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// slowly reads a little at a time.
type slowly struct{ io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(10 * time.Millisecond) // fake time: this is the speed of the peer
	return s.Reader.Read(b[:min(len(b), 1<<10)])
}

// flip subscribes to a topic and cancels it repeatedly, in one go.
func flip(r *raw, topic string, times int) <-chan struct{} {
	pair := wire.AppendSubscription(nil, false, true, []byte(topic))
	pair = wire.AppendSubscription(pair, false, false, []byte(topic))
	var b []byte
	for range times {
		b = append(b, pair...)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Write(b)
	}()
	return done
}

// A subscriber changes its subscriptions without end, far more often than a slow publisher may
// leave unread.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendBytes: 64 << 10}})
		defer n.Close()
		n.net.Buffer = 1 << 10
		pub := n.dialRaw(t, xsubAddr, wire.PUB)
		defer pub.Close()
		letSleepersEnd(t)
		told := new(collector)
		go told.readCommands(t, slowly{pub})
		hostile := n.dialRaw(t, xpubAddr, wire.SUB)
		defer hostile.Close()
		good := n.dialRaw(t, xpubAddr, wire.SUB)
		defer good.Close()

		const times = 20_000
		done := flip(hostile, "t", times)
		synctest.Wait()
		if closed(done) {
			t.Fatal("the subscriber did not have to wait for the publisher")
		}
		good.subscribe("good", true)
		<-done
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := n.Stats(); len(st.Publishers) != 1 {
			t.Fatalf("the publisher was closed: %v", st.XSub.Closed)
		}
		var want []string
		for range times {
			want = append(want, "\x01t", "\x00t")
		}
		all := told.all()
		if i := slices.Index(all, "\x01good"); i < 0 {
			t.Error("the publisher was not told of the other subscriber's subscription")
		} else {
			all = slices.Delete(all, i, i+1)
		}
		equal(t, "publisher", all, want)
	})
}

// A publisher that reads nothing slows a subscriber that changes its subscriptions often, and no
// other.
func TestPaceStoppedPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendBytes: 64 << 10}})
		defer n.Close()
		n.net.Buffer = 1 << 10
		stopped := n.dialRaw(t, xsubAddr, wire.PUB)
		defer stopped.Close()
		pub, told := n.watcher(t)
		defer pub.Close()
		hostile := n.dialRaw(t, xpubAddr, wire.SUB)
		defer hostile.Close()
		done := flip(hostile, "t", 20_000)
		time.Sleep(30 * time.Second)
		if st := n.Stats(); len(st.Publishers) != 2 {
			t.Fatalf("after 30 s the publisher was closed: %v", st.XSub.Closed)
		}
		if closed(done) {
			t.Error("the subscriber was not slowed down")
		}

		begin := time.Now()
		good := n.dialRaw(t, xpubAddr, wire.SUB)
		defer good.Close()
		for i := range 10 {
			good.subscribe(fmt.Sprintf("good%d", i), true)
		}
		for !slices.Contains(told.all(), "\x01good9") {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		if d := time.Since(begin); d > 10*pacePatience {
			t.Errorf("the other subscriber waited for %v", d)
		}

		// no peer waits for it at the end
		begin = time.Now()
		n.Close()
		if d := time.Since(begin); d > time.Second {
			t.Errorf("Close took %v", d)
		}
	})
}

// One subscriber's topics are bounded in number and size.
func TestTopicBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		sub := n.dialRaw(t, xpubAddr, wire.SUB)
		defer sub.Close()
		long := strings.Repeat("x", zmtp.DefaultMaxTopicSize-10)
		topic := func(i int) string { return fmt.Sprintf("%s%d", long, i) }
		const fit = maxTopicBytes / (zmtp.DefaultMaxTopicSize + frameOverhead)
		for round := range 2 { // cancelled topics do not count
			for i := range fit {
				sub.subscribe(topic(i), true)
				sub.subscribe(topic(i), true)
			}
			for i := range fit {
				sub.subscribe(topic(i), false)
				sub.subscribe(topic(i), false)
			}
			synctest.Wait()
			if st := n.Stats(); len(st.Subscribers) != 1 || st.Topics != 0 {
				t.Fatalf("round %d: %d topics, closed %v", round, st.Topics, st.XPub.Closed)
			}
		}
		for i := range fit + 2 {
			// the connection may be closed at the last one
			sub.Write(wire.AppendSubscription(nil, false, true, []byte(topic(i))))
		}
		synctest.Wait()
		if st := n.Stats(); len(st.Subscribers) != 0 ||
			st.XPub.Closed[wire.TooManySubscriptions] != 1 || st.Topics != 0 {
			t.Errorf("%d topics, closed %v", st.Topics, st.XPub.Closed)
		}
	})
}

// So many subscribers change their subscriptions that a few bytes of each are more than a publisher
// may leave unread.
func TestPaceCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendBytes: 1 << 20}})
		defer n.Close()
		n.net.Buffer = 1 << 10
		pub := n.dialRaw(t, xsubAddr, wire.PUB)
		defer pub.Close()
		letSleepersEnd(t)
		told := new(collector)
		go told.readCommands(t, slowly{pub})
		const crowd, times = 1000, 6 // all topics at once are within the limit on topics
		var all []<-chan struct{}
		for i := range crowd {
			sub := n.dialRaw(t, xpubAddr, wire.SUB)
			defer sub.Close()
			all = append(all, flip(sub, fmt.Sprintf("%0200d", i), times))
		}
		for _, done := range all {
			<-done
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := len(told.all()); got != 2*crowd*times {
			t.Errorf("the publisher was told %d changes, want %d", got, 2*crowd*times)
		}
		if st := n.Stats(); len(st.Publishers) != 1 {
			t.Fatalf("the publisher was closed: %v", st.XSub.Closed)
		}
	})
}

// When the topics of all subscribers together are more than a publisher can be told, the subscriber
// with the most is disconnected. The others and all publishers stay, also a new one.
func TestAllTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendBytes: 256 << 10}})
		defer n.Close()
		pub, _ := n.watcher(t)
		defer pub.Close()
		hold := func(name string, topics int) *raw {
			s := n.dialRaw(t, xpubAddr, wire.SUB)
			for i := range topics {
				s.subscribe(fmt.Sprintf("zeek.cluster.nodeid.%s.%0*d", name, 1000, i), true)
			}
			time.Sleep(time.Second) // it may wait for the publisher
			synctest.Wait()
			return s
		}
		small := n.dialRaw(t, xpubAddr, wire.SUB)
		small.subscribe("zeek.cluster.nodeid.small.", true)
		for _, s := range []*raw{small, hold("b", 40), hold("a", 60), hold("c", 20)} {
			defer s.Close()
		}
		st := n.Stats()
		if len(st.Subscribers) != 4 || st.Topics != 121 {
			t.Fatalf("within the limit: %d topics, closed %v", st.Topics, st.XPub.Closed)
		}
		late := hold("d", 10)
		defer late.Close()
		st = n.Stats()
		if len(st.Subscribers) != 4 || st.Topics != 71 ||
			st.XPub.Closed[wire.TooManySubscriptions] != 1 {
			t.Fatalf("above the limit: %d topics of %d subscribers, closed %v", st.Topics,
				len(st.Subscribers), st.XPub.Closed)
		}
		for _, s := range st.Subscribers {
			if s.Topics == 60 {
				t.Error("the subscriber with the most topics is still there")
			}
		}
		if len(n.logs.matching("the subscriber with the most is disconnected")) != 1 {
			t.Errorf("logged %q", n.logs.matching())
		}
		another, told := n.watcher(t)
		defer another.Close()
		if got := len(told.all()); got != 71 || len(n.Stats().Publishers) != 2 {
			t.Errorf("a new publisher was told %d topics, closed %v", got, n.Stats().XSub.Closed)
		}
		small.subscribe("zeek.cluster.nodeid.small.", false)
		for range 2 {
			hold("e", 0).Close()
		}
		synctest.Wait()
		if n.Stats().Topics != 70 || n.topicBytes != sumOf(n.table.Topics()) {
			t.Errorf("%d topics of %d bytes", n.Stats().Topics, n.topicBytes)
		}
	})
}

func sumOf(topics iter.Seq[string]) (n int64) {
	for topic := range topics {
		n += int64(len(topic) + frameOverhead)
	}
	return n
}
