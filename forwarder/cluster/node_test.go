package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// broker is a forwarder with its endpoints.
type broker struct {
	*forwarder.Forwarder
	xsub, xpub string
}

func startBroker(t *testing.T, xsub, xpub string) *broker {
	t.Helper()
	// On a slow machine the default policy may drop events of a node that does not keep up.
	b := &broker{Forwarder: forwarder.New(forwarder.Config{Overload: forwarder.Block})}
	t.Cleanup(func() { b.Close() })
	var err, err2 error
	testkit.Eventually(t, "the broker listens", func() bool { // the port of one that has just ended
		if b.xsub, err = b.ListenXSub(xsub); err != nil {
			return false
		}
		b.xpub, err2 = b.ListenXPub(xpub)
		return err2 == nil
	})
	return b
}

const anyPort = "tcp://127.0.0.1:*"

// member is a node and what it was told.
type member struct {
	*Node
	mu       sync.Mutex
	statuses []string
}

// join makes a node at a broker.
func join(t *testing.T, b *broker, cfg Config) *member {
	t.Helper()
	m := new(member)
	cfg.XSub, cfg.XPub = b.xsub, b.xpub
	cfg.Status = func(_ context.Context, s Status) {
		m.mu.Lock()
		defer m.mu.Unlock()
		text := fmt.Sprintf("%v %s %v", s.Kind, s.Peer.Name, s.Cause)
		m.statuses = append(m.statuses, strings.TrimPrefix(text, "peer_"))
	}
	cfg.Socket.ReconnectInterval = 10 * time.Millisecond
	var err error
	if m.Node, err = Join(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.leave(t) })
	return m
}

func (m *member) leave(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Errorf("%s: %v", m.Self().Name, err)
	}
}

// told returns the changes that the member was told.
func (m *member) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.statuses)
}

func (m *member) names() (names []string) {
	for _, p := range m.Peers() {
		names = append(names, p.Name)
	}
	return names
}

// awaitPeers waits until the peers that are up are those with the names.
func (m *member) awaitPeers(t *testing.T, names ...string) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%q sees %q", m.Self().Name, names),
		func() bool { return slices.Equal(m.names(), names) })
}

var layout = &Layout{ManagerIsLogger: true, Nodes: map[string]NodeType{"manager": Manager,
	"worker-1": Worker, "worker-2": Worker}}

// Three nodes and one that is passive see each other come and go, whatever the format of events.
func TestNodesSeeEachOther(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	passive := join(t, b, Config{})
	manager := join(t, b, Config{Name: "manager", Layout: layout})
	one := join(t, b, Config{Name: "worker-1", Layout: layout, Format: JSON})
	two := join(t, b, Config{Name: "worker-2", Layout: layout})
	manager.awaitPeers(t, "worker-1", "worker-2")
	one.awaitPeers(t, "manager", "worker-2")
	two.awaitPeers(t, "manager", "worker-1")
	passive.awaitPeers(t, "manager", "worker-1", "worker-2")

	two.leave(t)
	manager.awaitPeers(t, "worker-1")
	one.awaitPeers(t, "manager")
	passive.awaitPeers(t, "manager", "worker-1")

	// A successor with the same name.
	join(t, b, Config{Name: "worker-2", Layout: layout})
	manager.awaitPeers(t, "worker-1", "worker-2")
	one.awaitPeers(t, "manager", "worker-2")
	manager.leave(t)
	want := []string{"added worker-1 ", "added worker-2 ", "lost worker-2 unsubscribed",
		"added worker-2 "}
	got := manager.told()
	slices.Sort(got[:min(2, len(got))])
	if n := min(len(got), len(want)); !slices.Equal(got[:n], want) ||
		!slices.Contains(got, "removed worker-1 left") {
		t.Errorf("the manager was told %q", got)
	}
}

// One connection of a node breaks: that of its XPUB or of its XSUB, or the broker is another one.
// All nodes see each other again.
func TestNodesMeetAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	members := meet(t, b)
	breakConnections(t, members)
	told := members["manager"].hears()
	b.Close()
	testkit.Eventually(t, "worker-1 is lost",
		func() bool { return told("lost worker-1 broker_lost") })
	startBroker(t, b.xsub, b.xpub)
	testkit.Eventually(t, "worker-1 is up", func() bool { return told("added worker-1 ") })
	awaitAll(t, members)
}

// The same at Zeek's own broker, a proxy of libzmq. There a node that leaves is down, too.
func TestLibzmqBroker(t *testing.T) {
	t.Parallel()
	r := testkit.StartLibzmq(t).Call(t, "proxy", testkit.Args{"xsub": anyPort, "xpub": anyPort})
	b := &broker{xsub: r.Endpoints[0], xpub: r.Endpoints[1]}
	members := meet(t, b)
	breakConnections(t, members)
	passive := join(t, b, Config{})
	passive.awaitPeers(t, "manager", "worker-1", "worker-2")
	var got received
	Handle(members["worker-2"].Node, "Site::n", func(_ context.Context, _ Event,
		args struct{ N uint64 }) {
		got.add("%d", args.N)
	})
	ready(t, passive)
	err := passive.Publish(t.Context(), NodeTopic("worker-2"), "Site::n", uint64(3))
	if err != nil {
		t.Fatal(err)
	}
	got.await(t, "3")
	members["worker-1"].leave(t)
	delete(members, "worker-1")
	awaitAll(t, members)
}

// meet makes three nodes and waits until they see each other.
func meet(t *testing.T, b *broker) map[string]*member {
	t.Helper()
	members := map[string]*member{}
	for name := range layout.Nodes {
		members[name] = join(t, b, Config{Name: name, Layout: layout})
	}
	awaitAll(t, members)
	return members
}

// awaitAll waits until each of the members sees all others, and nobody else.
func awaitAll(t *testing.T, members map[string]*member) {
	t.Helper()
	names := slices.Sorted(maps.Keys(members))
	for name, m := range members {
		m.awaitPeers(t, slices.DeleteFunc(slices.Clone(names),
			func(other string) bool { return other == name })...)
	}
}

// breakConnections breaks one connection of worker-1 after the other.
func breakConnections(t *testing.T, members map[string]*member) {
	t.Helper()
	broken := errors.New("test: connection broken")
	for _, s := range members["worker-1"].Sockets() {
		told := members["manager"].hears()
		s.ClosePeers(func(*zmtp.Peer) error { return broken })
		testkit.Eventually(t, fmt.Sprintf("worker-1 is up again after its %s broke", s.Type()),
			func() bool { return told("added worker-1 ") })
		awaitAll(t, members)
	}
}

// hears returns what reports whether the member was told something from now on.
func (m *member) hears() func(text string) bool {
	before := len(m.told())
	return func(text string) bool { return slices.Contains(m.told()[before:], text) }
}

// Nodes that wait for the start of the cluster get to know of it, from a manager that does what
// Zeek's script does (scripts/policy/frameworks/cluster/nodes-experimental/manager.zeek).
func TestClusterStarted(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	manager := join(t, b, Config{Name: "manager", Layout: layout})
	var mu sync.Mutex
	connected := map[string]bool{}
	Handle(manager.Node, fullyConnected, func(ctx context.Context, _ Event,
		args struct {
			Name, ID string
			Again    bool
		}) {
		mu.Lock()
		defer mu.Unlock()
		connected[args.Name] = args.Again
		if len(connected) == 2 && !args.Again {
			if err := manager.Publish(ctx, startedTopic, clusterStarted); err != nil {
				t.Error(err)
			}
		}
	})
	one := join(t, b, Config{Name: "worker-1", Layout: layout})
	two := join(t, b, Config{Name: "worker-2", Type: Worker}) // without a layout
	manager.awaitPeers(t, "worker-1", "worker-2")
	mu.Lock()
	if len(connected) > 0 {
		t.Errorf("the manager was told %v, and nobody asked", connected)
	}
	mu.Unlock()
	if err := manager.Subscribe(startedTopic); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{one, two} {
		testkit.Eventually(t, "the cluster has started", func() bool { return m.Stats().Started })
	}
	// Nodes say that again when one comes again.
	one.leave(t)
	join(t, b, Config{Name: "worker-1", Layout: layout})
	testkit.Eventually(t, "worker-2 says that the cluster has started", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return connected["worker-2"]
	})
}

// TestRecordedPeers puts a node into the place of the recorded logger, at a broker with which the
// other recorded nodes do again what they did. It answers as the logger did, byte for byte, and
// sees the others come and go as the logger logged.
func TestRecordedPeers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, anyPort, anyPort)
	var logger *member
	var id string
	peers := map[string]*recordedPeer{}
	var wanted, got []string
	for _, e := range recorded(t) {
		switch name := NameInID(e.node); {
		case name != "logger":
			if peers[name] == nil {
				peers[name] = newRecordedPeer(t, b)
			}
			if e.goodbye {
				testkit.Eventually(t, name+" has been up", func() bool {
					return slices.Contains(logger.told(), "added "+name+" ")
				})
			}
			peers[name].repeat(e, id)
		case logger == nil:
			id = e.node
			logger = join(t, b, Config{Name: name, Layout: recordedLayout, id: id})
		case e.sent && e.isHello():
			wanted = append(wanted, fmt.Sprintf("%q", e.message.Wire()))
		}
	}
	for _, p := range peers {
		p.close()
		got = append(got, p.from(id)...)
	}
	logged := clusterLog(t)["logger"]
	for _, p := range peers { // the manager, and a logger that has ended before it in the recording
		p.close()
	}
	testkit.Eventually(t, "all nodes that came are gone", func() bool {
		return len(logger.told()) > len(logged) && len(logger.Peers()) == 0
	})
	var want []string
	for _, line := range logged {
		if name, ok := strings.CutPrefix(line, "node down: "); ok {
			want = append(want, "lost "+name+" unsubscribed")
		} else {
			want = append(want, "added "+strings.Fields(line)[3]+" ")
		}
	}
	want = append(want, "lost manager unsubscribed") // which ended last and could not log it
	if told := logger.told(); !equalSets(told, want) {
		t.Errorf("the node saw\n%q\nwant\n%q", told, want)
	}
	if !equalSets(got, wanted) {
		t.Errorf("the others got\n%s\nwant\n%s", strings.Join(got, "\n"),
			strings.Join(wanted, "\n"))
	}
}

// recordedPeer is a recorded node at another broker.
type recordedPeer struct {
	t    *testing.T
	xpub *zmtp.XPub
	xsub *zmtp.XSub

	mu       sync.Mutex
	topics   []string       // that others have subscribed
	received []zmtp.Message // all that the node has got
	awaited  int            // messages of the node under test
}

func newRecordedPeer(t *testing.T, b *broker) *recordedPeer {
	t.Helper()
	p := &recordedPeer{t: t, xsub: zmtp.NewXSub(zmtp.Config{}),
		xpub: zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Verbose: true})}
	t.Cleanup(p.close)
	if err := errors.Join(p.xpub.Connect(b.xsub), p.xsub.Connect(b.xpub)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for m := range p.xpub.All(t.Context()) {
			if part := m.Part(0); len(part) > 0 && part[0] == 1 {
				p.mu.Lock()
				p.topics = append(p.topics, string(part[1:]))
				p.mu.Unlock()
			}
		}
	}()
	go func() {
		for m := range p.xsub.All(t.Context()) {
			if m.NumParts() == 4 {
				p.mu.Lock()
				p.received = append(p.received, m)
				p.mu.Unlock()
			}
		}
	}()
	return p
}

// repeat does again what the node did, after it has got what it had got by then of the node with
// the id.
func (p *recordedPeer) repeat(e recordedEvent, id string) {
	p.t.Helper()
	var err error
	switch {
	case e.goodbye:
		p.close()
	case !e.sent && e.message.NumParts() == 4 && string(e.message.Part(1)) == id:
		p.awaited++
		testkit.Eventually(p.t, "a message arrives",
			func() bool { return len(p.from(id)) >= p.awaited })
	case !e.sent:
	case e.message.NumParts() == 4:
		topic := string(e.message.Part(0))
		testkit.Eventually(p.t, "somebody has subscribed "+topic, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.ContainsFunc(p.topics,
				func(prefix string) bool { return strings.HasPrefix(topic, prefix) })
		})
		err = p.xpub.Send(p.t.Context(), e.message)
	case e.on:
		err = p.xsub.Subscribe(e.topic)
	default:
		err = p.xsub.Unsubscribe(e.topic)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// from returns the messages that the node has got of one with an id.
func (p *recordedPeer) from(id string) (messages []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.received {
		if string(m.Part(1)) == id {
			messages = append(messages, fmt.Sprintf("%q", m.Wire()))
		}
	}
	return messages
}

// close ends both connections, after what was sent has arrived.
func (p *recordedPeer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.xpub.Shutdown(ctx)
	p.xsub.Close()
}

func ready(t *testing.T, m *member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}
