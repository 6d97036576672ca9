package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/capture"
	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// The ports of the broker in the recording.
const (
	recordedXSub = 15556
	recordedXPub = 15555
)

// recordedEvent is something that one node of the recording sent or received.
type recordedEvent struct {
	node     string // the node's id
	sent     bool
	topic    string // of a subscription, see on
	on       bool
	message  zmtp.Message // of an event, else the zero Message
	goodbye  bool         // the node's connection for subscriptions has ended
	internal event.Event  // in message
}

// recorded returns what the nodes of a real Zeek 9.1-dev cluster exchanged with their broker, in
// order: golden/cluster.pcap without the log batches.
func recorded(t *testing.T) (events []recordedEvent) {
	t.Helper()
	name := filepath.Join(testkit.Root(t), "forwarder/testdata/cluster-broker.pcap.gz")
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := capture.NewReader(file, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[uint64]string{} // node ids by session
	var sessions []uint64        // of events
	for ev, err := range r.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		e := recordedEvent{sent: ev.From == capture.Client}
		switch {
		case ev.Kind == capture.Closed && ev.Session.Server.Port() == recordedXPub:
			e.goodbye = true
		case ev.Kind == capture.Command:
			e.topic, e.on = string(ev.Data), ev.Name == "SUBSCRIBE"
		case ev.Kind == capture.Message && ev.Message.NumParts() == 1:
			part := ev.Message.Part(0)
			e.topic, e.on = string(part[1:]), part[0] == 1
		case ev.Kind == capture.Message:
			m, err := zmtp.ParseMessage(slices.Clone(ev.Message.Wire()))
			if err != nil {
				t.Fatal(err)
			}
			e.message = m
			if e.internal, err = event.ParseEvent(m.Part(3)); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		id, own := idOfTopic([]byte(e.topic))
		if own && e.sent && ev.Session.Server.Port() == recordedXPub {
			nodes[ev.Session.ID] = id
		}
		if e.message.NumParts() == 4 && e.sent {
			nodes[ev.Session.ID] = string(e.message.Part(1))
		}
		events, sessions = append(events, e), append(sessions, ev.Session.ID)
	}
	for i := range events {
		if events[i].node = nodes[sessions[i]]; events[i].node == "" {
			t.Fatalf("nothing tells the node of session %d", sessions[i])
		}
	}
	return events
}

// recordedLayout has the nodes of the recording.
var recordedLayout = &Layout{Nodes: map[string]NodeType{"manager": Manager, "logger": Logger,
	"proxy": Proxy, "worker-1": Worker, "worker-2": Worker}}

// take gives a membership what a real node received.
func (e *recordedEvent) take(t *testing.T, m *membership) {
	t.Helper()
	if id, ok := idOfTopic([]byte(e.topic)); ok && e.on {
		m.subscribed(id, time.Now())
	} else if ok {
		m.unsubscribed(id, false, time.Now())
	}
	if !e.isHello() {
		return
	}
	var name, id string
	if err := e.internal.Decode(&name, &id); err != nil {
		t.Fatal(err)
	}
	if string(e.internal.Name) == helloFirst {
		m.first(name, id, time.Now())
	} else {
		m.second(name, id, time.Now())
	}
}

func (e *recordedEvent) isHello() bool {
	return string(e.internal.Name) == helloFirst || string(e.internal.Name) == helloSecond
}

// TestRecordedAnswers gives a membership in the place of each real node what that node received,
// and expects the hellos that the real node sent, and that it sees the others come and go as the
// real node has logged.
func TestRecordedAnswers(t *testing.T) {
	events := recorded(t)
	ids := map[string]string{} // by name
	for _, e := range events {
		ids[NameInID(e.node)] = e.node
	}
	if len(ids) != 5 {
		t.Fatalf("the recording has the nodes %v", ids)
	}
	logged := clusterLog(t)
	for name, id := range ids {
		m := newMembership(Peer{Name: name, ID: id}, recordedLayout)
		var said, wanted, told []string
		for _, e := range events {
			switch {
			case e.node != id:
			case e.sent && e.isHello():
				wanted = append(wanted, fmt.Sprintf("%s to %s", e.internal.Name,
					e.message.Part(0)))
			case !e.sent:
				e.take(t, m)
			}
		}
		for _, g := range m.greetings {
			said = append(said, fmt.Sprintf("%s to %s", g.event, NodeIDTopic(g.to)))
		}
		for _, s := range m.statuses {
			line := "node down: " + s.Peer.Name
			if s.Kind == PeerAdded {
				line = fmt.Sprintf("got hello from %s (%s)", s.Peer.Name, s.Peer.ID)
			}
			told = append(told, line)
		}
		switch name {
		case "worker-2":
			// It had ended when the manager's first hello came.
			wanted = append(wanted, helloSecond+" to "+NodeIDTopic(ids["manager"]))
			logged[name] = append(logged[name], "got hello from manager ("+ids["manager"]+")")
		case "manager":
			logged[name] = append(logged[name], "node down: logger") // which no logger could log
		}
		if len(m.refused) > 0 || !equalSets(said, wanted) || !equalSets(told, logged[name]) {
			t.Errorf("%s said\n%s\nwant\n%s\nand saw\n%s\nwant\n%s\nrefused %v", name,
				strings.Join(said, "\n"), strings.Join(wanted, "\n"), strings.Join(told, "\n"),
				strings.Join(logged[name], "\n"), m.refused)
		}
	}
}

// equalSets sorts both.
func equalSets(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// clusterLog returns the lines of the recording's cluster.log by node.
func clusterLog(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/cluster.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); line[0] != '#' {
			lines[columns[1]] = append(lines[columns[1]], columns[2])
		}
	}
	return lines
}
