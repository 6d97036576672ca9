package forwarder

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// oneBatch is a batch of one message.
func oneBatch(parts ...string) *zmtp.Batch {
	var b zmtp.BatchBuilder
	b.AddMessage(zmtp.NewMessageString(parts...))
	return b.Batch()
}

// TestLocal lets a participant in the process and two with connections exchange messages.
func TestLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		var got taken
		l := n.Join(got.take)
		for _, topic := range []string{"a.", "own."} {
			if err := l.Subscribe([]byte(topic)); err != nil {
				t.Fatal(err)
			}
		}
		pub := zmtp.NewPub(n.peerConfig())
		defer pub.Close()
		sub := zmtp.NewSub(n.peerConfig())
		defer sub.Close()
		sub.Subscribe("z.")
		err := errors.Join(pub.Connect("tcp://"+xsubAddr), sub.Connect("tcp://"+xpubAddr))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		received := collect(sub)

		// The PUB sends only what was subscribed at its connection, so the subscription has
		// reached it.
		for _, topic := range []string{"a.1", "b.1", "own.1"} {
			if err := pub.Send(t.Context(), zmtp.NewMessageString(topic, "x")); err != nil {
				t.Fatal(err)
			}
		}
		publisher := l.NewPublisher()
		for _, topic := range []string{"z.1", "own.2", "nobody's"} {
			if err := publisher.Publish(oneBatch(topic, "y")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		equal(t, "the Local", slices.Sorted(slices.Values(got.all())),
			[]string{"a.1|x", "own.1|x", "own.2|y"})
		equal(t, "the SUB", received.all(), []string{"z.1|y"})
		if n := l.Taken(); n != 3 {
			t.Errorf("Taken is %d, want 3", n)
		}
		if !n.Wanted([]byte("own.3")) || n.Wanted([]byte("b.2")) {
			t.Error("Wanted does not follow the subscriptions")
		}
		accounted(t, n.Forwarder)
		st := n.Stats()
		if st.Received.Messages != 5 || st.Received.Unmatched != 1 { // the PUB keeps b.1
			t.Errorf("received %+v, want 5 messages, 1 of them unmatched", st.Received)
		}
		// As in Zeek's proxy, each message counts, with its two parts.
		if in := st.Frontend.In; in.Messages != 5 || in.Parts != 10 || in != st.Backend.Out {
			t.Errorf("the proxy's counters are %+v and %+v", st.Frontend, st.Backend)
		}

		l.Cancel([]byte("a."))
		l.Leave()
		if n.Stats().Topics != 1 {
			t.Errorf("%d topics are left, want that of the SUB only", n.Stats().Topics)
		}
		n.Close()
		if err := publisher.Publish(oneBatch("z.2")); !errors.Is(err, zmtp.ErrClosed) {
			t.Errorf("Publish after Close: %v", err)
		}
	})
}

// TestLocalTryPublish: a subscriber that does not read does not hold TryPublish up.
func TestLocalTryPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{Overload: Block, XPub: zmtp.Config{SendHWM: 10}})
		defer n.Close()
		stalled := n.dialRaw(t, xpubAddr, wire.SUB)
		defer stalled.Close()
		stalled.subscribe("s", true)
		synctest.Wait()
		l := n.Join(nil).NewPublisher()
		body := strings.Repeat("x", 1<<20)
		for range 100 {
			if err := l.TryPublish(oneBatch("s", body)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		accounted(t, n.Forwarder)
		if lost := n.Stats().Account.Dropped[zmtp.DropFull]; lost == 0 {
			t.Error("nothing was lost, although the subscriber does not read")
		}
	})
}

// TestLocalPublishersAreIndependent: with the policy Block, a publisher that waits for a subscriber
// does not hold up another publisher of the same participant.
func TestLocalPublishersAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{Overload: Block, XPub: zmtp.Config{SendHWM: 10}})
		defer n.Close()
		stalled := n.dialRaw(t, xpubAddr, wire.SUB)
		defer stalled.Close()
		stalled.subscribe("stalled", true)
		sub := zmtp.NewSub(n.peerConfig())
		defer sub.Close()
		sub.Subscribe("reads")
		if err := sub.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		received := collect(sub)
		l := n.Join(nil)
		waiting, free := l.NewPublisher(), l.NewPublisher()
		ended := make(chan error, 1)
		go func() {
			for body := strings.Repeat("x", 1<<20); ; {
				if err := waiting.Publish(oneBatch("stalled", body)); err != nil {
					ended <- err
					return
				}
			}
		}()
		synctest.Wait() // the publisher waits for room
		if err := free.Publish(oneBatch("reads")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "the SUB", received.all(), []string{"reads"})
		n.Close()
		if err := <-ended; !errors.Is(err, zmtp.ErrClosed) {
			t.Errorf("the waiting publisher ended with %v", err)
		}
		accounted(t, n.Forwarder)
	})
}

// TestLocalTopics: a participant cannot subscribe more than publishers can bear, and nobody else is
// closed because of it.
func TestLocalTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendBytes: 1 << 20}})
		defer n.Close()
		other := n.dialRaw(t, xpubAddr, wire.SUB)
		defer other.Close()
		other.subscribe("s", true)
		synctest.Wait()
		l := n.Join(nil)
		defer l.Leave()
		var err error
		for i := 0; i < 1000 && err == nil; i++ {
			err = l.Subscribe([]byte(strings.Repeat("t", 1000+i)))
		}
		if err == nil {
			t.Fatal("1.5 MB of topics were subscribed")
		}
		synctest.Wait()
		if subs := n.Stats().Subscribers; len(subs) != 1 {
			t.Errorf("%d subscribers are left, want 1", len(subs))
		}
	})
}
