package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// attacker publishes and subscribes what no node does.
type attacker struct {
	t    *testing.T
	xpub *zmtp.XPub
	xsub *zmtp.XSub
}

func newAttacker(t *testing.T, b *broker, victim *member) *attacker {
	t.Helper()
	a := &attacker{t: t, xpub: zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{NoDrop: true}),
		xsub: zmtp.NewXSub(zmtp.Config{})}
	t.Cleanup(func() { a.xpub.Close(); a.xsub.Close() })
	if err := a.xpub.Connect(b.xsub); err != nil {
		t.Fatal(err)
	}
	if err := a.xsub.Connect(b.xpub); err != nil {
		t.Fatal(err)
	}
	for m := range a.xpub.All(t.Context()) { // it can publish to the victim
		if string(m.Part(0)[1:]) == NodeIDTopic(victim.Self().ID) {
			break
		}
	}
	go func() { // and reads what else comes
		for range a.xpub.All(t.Context()) {
		}
	}()
	return a
}

func (a *attacker) send(parts ...string) {
	a.t.Helper()
	if err := a.xpub.Send(a.t.Context(), zmtp.NewMessageString(parts...)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *attacker) publish(topic, name string, args ...any) {
	a.t.Helper()
	payload, err := event.AppendEvent(nil, name, args)
	if err != nil {
		a.t.Fatal(err)
	}
	a.send(topic, "zeromq_attacker_h_1_N", "broker-bin-v1", string(payload))
}

// Events and hellos that are absurd are counted by reason and logged once, and hold nothing. The
// other nodes go on.
func TestHostile(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	var log testkit.Output
	victim := join(t, b, Config{Name: "worker-1", Layout: layout,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	manager := join(t, b, Config{Name: "manager", Layout: layout})
	victim.awaitPeers(t, "manager")
	a := newAttacker(t, b, victim)
	to := NodeIDTopic(victim.Self().ID)
	large := strings.Repeat("i", 1<<20)

	a.send(to)
	a.send(to, "n", "broker-bin-v1", "p", "five")
	a.send(to, "n", "broker-bin-v2", "payload")
	a.send(to, large, large, large)
	a.send(to, "n", "broker-bin-v1", large)
	a.send(to, "n", "broker-json-v1", strings.Repeat("[", 1<<20))
	a.send(to, "n", "broker-bin-v1", strings.Repeat("\x0e\x01", 50_000)+"\x00")
	a.publish(to, large, large)
	a.publish(to, helloFirst)
	a.publish(to, helloFirst, "one")
	a.publish(to, helloSecond, uint64(1), uint64(2))
	a.publish(to, helloSecond, "worker-2", "")
	a.publish(to, helloFirst, large, "id")
	a.publish(to, helloFirst, "worker-2", large)
	a.publish(to, helloFirst, strings.Repeat("n", maxNameSize+1), "id")
	a.publish(to, helloSecond, "nobody", "zeromq_nobody_h_1_N")
	a.publish(to, helloSecond, "worker-2", "zeromq_worker-2_h_1_N")    // not subscribed
	a.publish(to, helloSecond, "manager", manager.Self().ID)           // again
	a.publish(Worker.Topic(), helloFirst, "manager", "zeromq_m_h_1_N") // not to the id
	const hellos, held = 1000, 50
	victim.Node.mu.Lock()
	victim.members.max = held
	victim.Node.mu.Unlock()
	for i := range hellos {
		a.publish(to, helloFirst, "worker-2", fmt.Sprintf("zeromq_worker-2_h_%d_N", i))
	}
	var st Stats
	testkit.Eventually(t, "all are counted", func() bool {
		victim.Node.mu.Lock()
		waiting := len(victim.members.heard)
		victim.Node.mu.Unlock()
		st = victim.Stats()
		// On a slow machine some expire before the next ones take their place.
		return waiting <= held && st.balanced() &&
			st.Refused[TooMany]+st.Refused[Expired]+uint64(waiting) == hellos
	})
	st.Refused[TooMany], st.Refused[Expired] = 0, 0
	want := Refusals{BadHello: 4, TooLong: 3, UnknownName: 1, Repeated: 1, NotSubscribed: 1,
		NotForUs: 1}
	drops := Drops{BadParts: 2, BadSerializer: 2, BadEvent: 3}
	if st.Refused != want || st.Dropped != drops || st.Unhandled != 1 {
		t.Errorf("refused %v, want %v; dropped %v, want %v; %d unhandled", st.Refused, want,
			st.Dropped, drops, st.Unhandled)
	}
	lines := strings.Split(log.String(), "\n")
	if len(lines) > 40 || len(log.String()) > 40*1024 {
		t.Errorf("%d lines of log, %d bytes", len(lines), len(log.String()))
	}
	join(t, b, Config{Name: "worker-2", Layout: layout}).awaitPeers(t, "manager", "worker-1")
	victim.awaitPeers(t, "manager", "worker-2")
}

// Subscriptions of ids by the thousand are bounded. Two nodes with the same name: the second takes
// the place of the first. A node that is impersonated stays up.
func TestHostileIDs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	victim := join(t, b, Config{Name: "worker-1", Layout: layout})
	manager := join(t, b, Config{Name: "manager", Layout: layout})
	victim.awaitPeers(t, "manager")
	first := join(t, b, Config{Name: "worker-2", Layout: layout})
	victim.awaitPeers(t, "manager", "worker-2")
	second := join(t, b, Config{Name: "worker-2", Layout: layout})
	testkit.Eventually(t, "the second is up", func() bool {
		p := victim.Peers()
		return len(p) == 2 && p[1].ID == second.Self().ID
	})
	first.leave(t)
	a := newAttacker(t, b, victim)
	const ids, held = 200, 100
	victim.Node.mu.Lock()
	victim.members.max = held
	victim.Node.mu.Unlock()
	for i := range ids {
		id := fmt.Sprintf("zeromq_worker-2_h_%d_N", i)
		if err := a.xsub.Subscribe(NodeIDTopic(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.xsub.Subscribe(NodeIDTopic(strings.Repeat("i", maxIDSize+1))); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "they are counted", func() bool {
		r := victim.Stats().Refused
		return r[TooLong] == 1 && r[TooMany] == ids-held+2
	})
	victim.Node.mu.Lock()
	impostor := ""
	for id := range victim.members.visible {
		if strings.HasPrefix(id, "zeromq_worker-2_h_") {
			impostor = id
		}
	}
	victim.Node.mu.Unlock()
	a.publish(NodeIDTopic(victim.Self().ID), helloSecond, "manager", impostor)
	testkit.Eventually(t, "an impostor is refused", func() bool {
		return victim.Stats().Refused[DuplicateName] == 1
	})
	victim.awaitPeers(t, "manager", "worker-2")
	if id := victim.Peers()[0].ID; id != manager.Self().ID {
		t.Errorf("the manager is %s", id)
	}
	a.xsub.Close()
	testkit.Eventually(t, "nothing of them is held", func() bool {
		victim.Node.mu.Lock()
		defer victim.Node.mu.Unlock()
		m := victim.members
		return len(m.visible) == 2 && len(m.greeted) == 0
	})
}

// Halves of handshakes are forgotten after 10 s, as by Zeek.
func TestHalvesExpire(t *testing.T) {
	now := time.Unix(1e9, 0)
	m := newMembership(Peer{Name: "a", ID: "a-id"}, nil)
	m.subscribed("b-id", now)
	m.first("c", "c-id", now)
	m.first("b", "b-id", now.Add(helloExpiration+time.Second))
	m.subscribed("c-id", now.Add(helloExpiration+time.Second))
	for _, g := range m.greetings {
		if g.event == helloSecond {
			t.Errorf("%v after the first half has expired", g)
		}
	}
	if m.refusals[Expired] != 2 {
		t.Errorf("%v", m.refusals)
	}
}

// No sequence of what a node may hear makes it hold more than its bounds, or say that a peer is
// down that was not up.
func FuzzMembership(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 0x11, 0x42, 4, 0x43, 5, 0xff}, false)
	f.Add(bytes.Repeat([]byte{0, 0x10, 2, 0x12, 1}, 5), true)
	f.Fuzz(func(t *testing.T, input []byte, passive bool) {
		self := Peer{Name: "a", ID: "a0"}
		if passive {
			self.Name = ""
		}
		m := newMembership(self, nil)
		ids, names := []string{"a0", "b0", "b1", "c0"}, []string{"a", "b", "c", ""}
		up := map[string]bool{}
		for i, c := range input {
			id, name, now := ids[c>>4&3], names[c>>6], time.Unix(int64(i), 0)
			switch c & 7 {
			case 0, 1:
				m.subscribed(id, now)
			case 2:
				m.unsubscribed(id, false, now)
			case 3, 4:
				m.first(name, id, now)
			case 5, 6:
				m.second(name, id, now)
			case 7:
				m.lost()
				m.renew(now)
			}
			for _, s := range m.statuses {
				if added := s.Kind == PeerAdded; up[s.Peer.ID] == added {
					t.Fatalf("%v of a peer that is up: %t", s, up[s.Peer.ID])
				}
				up[s.Peer.ID] = s.Kind == PeerAdded
			}
			m.statuses = nil
			for id := range m.peers {
				if _, visible := m.visible[id]; !visible || !up[id] {
					t.Fatalf("%s is up, and visible: %t", id, visible)
				}
			}
			if !passive && len(m.names) != len(m.peers) {
				t.Fatalf("%d names of %d peers", len(m.names), len(m.peers))
			}
		}
	})
}
