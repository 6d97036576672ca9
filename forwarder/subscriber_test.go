package forwarder

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// watcher connects a publisher and collects what the broker tells it.
func (n *broker) watcher(t *testing.T) (*zmtp.XPub, *collector) {
	t.Helper()
	p := zmtp.NewXPub(n.peerConfig(), zmtp.XPubOptions{Verboser: true})
	if err := p.Connect("tcp://" + xsubAddr); err != nil {
		t.Fatal(err)
	}
	told := collect(p)
	synctest.Wait()
	return p, told
}

// A subscriber sends messages of all kinds to the publishers.
func TestUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		pub, told := n.watcher(t)
		defer pub.Close()
		sub := n.dialRaw(t, xpubAddr, wire.XSUB)
		defer sub.Close()
		sub.send("\x02user")
		sub.send("")
		sub.send("a", "b")
		sub.send("\x01t")
		sub.send("u", "\x01v", "w")
		sub.send("u", "\x00v")
		sub.send("\x00v") // it does not hold this topic
		synctest.Wait()
		equal(t, "publisher", told.all(),
			[]string{"\x02user", "", "a|b", "\x01t", "u", "\x01v", "w", "u", "\x00v"})
		want := zmtp.Traffic{Messages: 10, Parts: 11, Bytes: 5 + 0 + 2 + 2 + 1 + 2 + 1 + 1 + 2 + 2}
		if st := n.Stats(); st.Backend.In != want || st.Frontend.Out != want || st.Topics != 1 {
			t.Errorf("%+v, want %+v", st, want)
		}
	})
}

// A publisher that does not read loses messages, but no subscription.
func TestUpstreamLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XSub: zmtp.Config{SendHWM: 5}})
		defer n.Close()
		n.net.Buffer = 256
		pub := n.dialRaw(t, xsubAddr, wire.XPUB)
		defer pub.Close()
		sub := n.dialRaw(t, xpubAddr, wire.XSUB)
		defer sub.Close()
		// the publisher must be attached before subscriptions end
		synctest.Wait()
		var want []string
		for i, m := range sequence("\x02", 0, 200) {
			sub.send(m)
			sub.subscribe(m, true)
			sub.subscribe(m, false)
			want = append(want, "\x01"+m, "\x00"+m)
			if i%10 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		told := new(collector)
		go told.readCommands(t, pub)
		synctest.Wait()
		all := told.all()
		users := 0
		all = slices.DeleteFunc(all, func(m string) bool {
			if m[0] == 2 {
				users++
			}
			return m[0] == 2
		})
		equal(t, "publisher", all, want)
		st := n.Stats()
		if dropped := st.XSub.Dropped[zmtp.DropFull]; users < 5 || users+int(dropped) != 200 ||
			st.Publishers[0].Dropped.Total() != dropped {
			t.Errorf("%d messages, dropped %v, %+v", users, st.XSub.Dropped, st.Publishers)
		}
	})
}

// readCommands does what read does, for a connection on which subscriptions come as commands.
func (c *collector) readCommands(t *testing.T, r io.Reader) {
	var d wire.Decoder
	var b []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		b = append(b, buf[:n]...)
		for {
			it, err := d.Next(b)
			if err != nil {
				t.Error(err)
				return
			}
			if it.Kind == wire.NeedMore {
				break
			}
			text := b[:it.Size]
			if it.Kind == wire.ACommand {
				name, topic, _ := wire.ParseCommand(it.Body)
				text = wire.AppendSubscription(nil, true, string(name) == wire.CmdSubscribe, topic)
			}
			m, err := zmtp.ParseMessage(slices.Clone(text))
			if err != nil {
				t.Error(err)
				return
			}
			c.add(m)
			b = b[it.From:it.To]
		}
		if err != nil {
			return
		}
	}
}

// A publisher that speaks ZMTP 3.0, which has no commands for subscriptions, gets them as messages.
func TestOldPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		sub := n.dialRaw(t, xpubAddr, wire.SUB)
		defer sub.Close()
		sub.subscribe("before", true)
		synctest.Wait()
		c, err := n.net.Dial(t.Context(), xsubAddr)
		if err != nil {
			t.Fatal(err)
		}
		r := zmtptest.NewRaw(t, c)
		hello := wire.AppendGreeting(nil, "NULL", false)
		hello[11] = 0 // minor version
		r.Send(wire.AppendCommand(hello, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte("PUB"))))
		r.Expect(wire.AppendGreeting(nil, "NULL", false))
		r.ReadFrame()
		synctest.Wait() // until the publisher is attached and was told of the first topic
		sub.subscribe("behind", true)
		sub.subscribe("before", false)
		r.Expect([]byte("\x00\x07\x01before\x00\x07\x01behind\x00\x07\x00before"))
	})
}

// Peers that ask for too much are closed, and their subscriptions end. Others stay.
func TestBadSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{XPub: zmtp.Config{MaxTopicSize: 10, MaxSubscriptions: 3}})
		defer n.Close()
		pub, told := n.watcher(t)
		defer pub.Close()
		for _, asMessage := range []bool{false, true} {
			for _, last := range []string{"01234567890", "fourth"} {
				sub := n.dialRaw(t, xpubAddr, wire.SUB)
				for _, topic := range []string{"0123456789", "b", "b", "c", last} {
					sub.write(wire.AppendSubscription(nil, asMessage, true, []byte(topic)))
				}
				synctest.Wait()
				if _, err := io.ReadAll(sub); err != nil {
					t.Errorf("%q: %v", last, err)
				}
				sub.Close()
			}
		}
		one := []string{"\x010123456789", "\x01b", "\x01b", "\x01c", "\x000123456789", "\x00b",
			"\x00c"}
		equal(t, "publisher", told.all(), slices.Repeat(one, 4))
		if st := n.Stats().XPub; st.Closed[wire.TopicTooLong] != 2 ||
			st.Closed[wire.TooManySubscriptions] != 2 {
			t.Errorf("closed: %v", st.Closed)
		}
	})
}

// A published message that looks like a subscription is data like any other.
func TestPublishedSubscriptionIsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBroker(t, Config{})
		defer n.Close()
		sub := zmtp.NewSub(n.peerConfig())
		defer sub.Close()
		sub.Subscribe("\x01")
		if err := sub.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		got := collect(sub)
		pub := n.dialRaw(t, xsubAddr, wire.XPUB)
		defer pub.Close()
		synctest.Wait()
		pub.send("\x01topic")
		pub.send("\x00topic")
		pub.subscribe("topic", true)
		pub.send("\x01topic", "more")
		synctest.Wait()
		equal(t, "subscriber", got.all(), []string{"\x01topic", "\x01topic|more"})
		if st := n.Stats(); st.Topics != 1 || st.Received.Unmatched != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestNodeID(t *testing.T) {
	for topic, want := range map[string]string{
		"zeek.cluster.nodeid.zeromq_w.1_h_2_N.": "zeromq_w.1_h_2_N",
		"zeek.cluster.nodeid..":                 "",
		"zeek.cluster.nodeid.":                  "",
		"zeek.cluster.nodeid.x":                 "",
		"zeek.cluster.node.worker-1.":           "",
		"zeek.cluster.nodeid." + strings.Repeat("x", maxNodeID) +
			".": strings.Repeat("x", maxNodeID),
		"zeek.cluster.nodeid." + strings.Repeat("x", maxNodeID+1) + ".": "",
	} {
		s := new(subscriber)
		s.learn([]byte(topic))
		if got := s.nodeID(); got != want {
			t.Errorf("%q: %q, want %q", topic, got, want)
		}
	}
	s := new(subscriber)
	s.learn([]byte("zeek.cluster.nodeid.first."))
	s.learn([]byte("zeek.cluster.nodeid.second."))
	if got := s.nodeID(); got != "first" {
		t.Error(got)
	}
}
