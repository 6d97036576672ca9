package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
	"zmtpd/zmtp/loglimit"
)

// Format is the form of events on the wire. All nodes of a cluster must use the same
// (Cluster::event_serializer); a Node takes both from others.
type Format uint8

// The formats.
const (
	Binary Format = iota // broker-bin-v1
	JSON                 // broker-json-v1
)

var formatNames = []string{event.BinaryName, event.JSONName}

// String returns the name of the format on the wire.
func (f Format) String() string { return formatNames[f] }

// Config configures a Node. The zero value makes a passive node of a cluster whose broker has
// Zeek's default endpoints.
type Config struct {
	// Name is the name of this node in Cluster::nodes of all nodes. Default: none, which makes the
	// node passive: it says no hello and is not seen by others.
	Name string
	// Layout has the nodes of the cluster. The hellos of others are refused. Default nil: any node
	// may say hello, and pools are empty.
	Layout *Layout
	// Type is the type of this node, by which others address it. Default: that of Layout.
	Type NodeType

	// XSub and XPub are the endpoints of the broker's sockets of these types. Defaults
	// tcp://127.0.0.1:5556 and tcp://127.0.0.1:5555, as in Zeek
	// (Cluster::Backend::ZeroMQ::listen_xsub_endpoint and listen_xpub_endpoint).
	XSub, XPub string
	// Socket configures both sockets: encryption, limits, and so on. Its Logger is that of Config.
	Socket zmtp.Config

	// Format is the form in which events are published. Default Binary.
	Format Format
	// Queue and QueueBytes bound the events that wait for the handlers, in number and in bytes.
	// Defaults 10000, as in Zeek (onloop_queue_hwm), and 64 MiB; negative for no limit.
	Queue      int
	QueueBytes int64
	// Status is called with each change in the cluster, in order with the events, by the goroutine
	// that calls the handlers. Default: nobody is told.
	Status func(ctx context.Context, s Status)
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger

	id string // of tests, else a new one
}

const defaultQueue = 10_000

// Node is a node of a cluster. Its methods may be called from any goroutine.
type Node struct {
	cfg   Config
	name  string // empty for a passive node
	base  string // with which all ids of this node begin
	typ   NodeType
	log   *slog.Logger
	limit *loglimit.Limiter
	xpub  *zmtp.XPub
	xsub  *zmtp.XSub

	queue   *mailbox[item]     // for the handlers
	waiting *itemLimit         // of queue
	greet   *mailbox[greeting] // to be sent

	counts  counters
	stop    context.CancelFunc // ends the handlers
	reading sync.WaitGroup     // the goroutines that read from the sockets
	working sync.WaitGroup     // those that empty the mailboxes
	ended   chan struct{}      // closed when all goroutines are gone
	closing sync.Once

	mu       sync.Mutex
	members  *membership
	handlers map[string][]handler
	topics   map[string]struct{} // subscribed by the application
	probes   map[string]func()   // see probe, by topic
	probed   int
	pending  map[string]struct{} // nodes of the layout that have not come up since Join
	pools    map[NodeType]*Pool
	wanted   bool // some node waits for cluster_started
	listens  bool // and this one will receive it
	started  bool
	left     bool // Shutdown has begun
}

// Join makes a node and connects it, in the background. The broker need not be there yet. The
// caller must call Shutdown.
func Join(cfg Config) (*Node, error) {
	if cfg.XSub == "" {
		cfg.XSub = "tcp://127.0.0.1:5556"
	}
	if cfg.XPub == "" {
		cfg.XPub = "tcp://127.0.0.1:5555"
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = zmtp.DefaultQueueBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkName(cfg.Name, cfg.Layout); err != nil {
		return nil, err
	}
	if cfg.Type == None && cfg.Layout != nil {
		cfg.Type = cfg.Layout.Nodes[cfg.Name]
	}
	if cfg.id == "" {
		cfg.id = newID(cfg.Name)
	}
	cfg.Socket.Logger = cfg.Logger

	n := &Node{
		cfg: cfg, name: cfg.Name, base: cfg.id, typ: cfg.Type, log: cfg.Logger,
		limit: loglimit.New(8),
		// NoDrop as in Zeek (connect_xpub_nodrop): the only peer is the broker.
		xpub: zmtp.NewXPub(cfg.Socket, zmtp.XPubOptions{Verbose: true, NoDrop: true}),
		xsub: zmtp.NewXSub(cfg.Socket),
		waiting: &itemLimit{maxEvents: unlimited(cfg.Queue),
			maxBytes: unlimited(cfg.QueueBytes), maxStatuses: 4 * maxPeers},
		ended:    make(chan struct{}),
		handlers: map[string][]handler{},
		topics:   map[string]struct{}{},
		probes:   map[string]func(){},
		pending:  map[string]struct{}{},
		pools:    map[NodeType]*Pool{},
	}
	n.queue = newMailbox[item](n.waiting)
	greetings := greetingLimit(4 * maxPeers)
	n.greet = newMailbox[greeting](&greetings)
	n.members = newMembership(Peer{cfg.Name, cfg.id, time.Now()}, cfg.Layout)
	if cfg.Layout != nil {
		for name := range cfg.Layout.Nodes {
			n.pending[name] = struct{}{}
		}
		delete(n.pending, cfg.Name)
	}
	if err := n.connect(); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	n.reading.Go(n.readSubscriptions)
	n.reading.Go(n.readEvents)
	n.working.Go(func() { n.queue.drain(ctx, n.dispatch) })
	n.working.Go(func() { n.greet.drain(ctx, n.say) })
	return n, nil
}

// unlimited returns a limit in which a negative one is the largest number there is.
func unlimited[N int | int64](limit N) N {
	if limit < 0 {
		return N(math.MaxInt)
	}
	return limit
}

// checkName returns an error for a name that other nodes would not know.
func checkName(name string, layout *Layout) error {
	switch {
	case name == "":
		return nil
	case len(name) > maxNameSize || strings.ContainsAny(name, ". \t\r\n\x00"):
		return fmt.Errorf("cluster: %.80q is no name of a node: up to %d characters without dots "+
			"and spaces", name, maxNameSize)
	case !layout.has(name):
		return fmt.Errorf("cluster: the layout has no node %q, only %s", name,
			strings.Join(slices.Sorted(maps.Keys(layout.Nodes)), ", "))
	}
	return nil
}

// newID returns a new node id, for a node with a name in Zeek's form (options.zeek, my_node_id).
func newID(name string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	kind := "zmtpd"
	if name != "" {
		kind = "zeromq_" + name
	}
	return fmt.Sprintf("%s_%s_%d_N%s", kind, host, os.Getpid(), rand.Text()[:17])
}

// connect subscribes the topics of a node and connects both sockets. The node's own topics come
// last: when others see them, the node gets everything else.
func (n *Node) connect() error {
	for _, topic := range n.ownTopics() {
		if err := n.xsub.Subscribe(topic); err != nil {
			return err
		}
	}
	if err := n.xpub.Connect(n.cfg.XSub); err != nil {
		return errors.Join(err, n.closeSockets())
	}
	if err := n.xsub.Connect(n.cfg.XPub); err != nil {
		return errors.Join(err, n.closeSockets())
	}
	return nil
}

func (n *Node) closeSockets() error { return errors.Join(n.xpub.Close(), n.xsub.Close()) }

// ownTopics returns the topics that the node subscribes by itself
// (scripts/base/frameworks/cluster/setup-subscriptions.zeek). A passive node hears the hellos of
// others: without the dot at its end, the topic is not one of a node. Caller holds the lock, except
// in Join.
func (n *Node) ownTopics() (topics []string) {
	if n.name == "" {
		return []string{strings.TrimSuffix(nodeIDTopicPrefix, ".")}
	}
	for _, topic := range []string{n.typ.poolTopic(), n.typ.Topic(), NodeTopic(n.name),
		NodeIDTopic(n.members.self.ID)} {
		if topic != "" {
			topics = append(topics, topic)
		}
	}
	return topics
}

// Self returns the node as the others know it. It has no name if it is passive. The id changes when
// the node has lost the broker and comes again.
func (n *Node) Self() Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.members.self
}

func (n *Node) id() string { return n.Self().ID }

// Sockets returns the node's XPUB and XSUB sockets, to watch their connections.
func (n *Node) Sockets() []*zmtp.Socket { return []*zmtp.Socket{n.xpub.Socket, n.xsub.Socket} }

// Peers returns the other nodes that are up, sorted by name.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.members.peers), func(a, b Peer) int {
		return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID)
	})
}

// Subscribe makes the node receive events whose topic begins with a prefix; the empty prefix stands
// for all topics. Subscribing a prefix again has no effect. It does not wait.
func (n *Node) Subscribe(prefix string) error {
	if strings.HasPrefix(prefix, nodeIDTopicPrefix) {
		return fmt.Errorf("cluster: all nodes would take a subscription of %q for a new node; "+
			"subscribe the node's own topic, %s", prefix, NodeTopic("NAME"))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// The broker counts each subscription of a connection, but sees one cancellation
	// (libzmq, mtrie), so that a topic is subscribed once.
	if _, again := n.topics[prefix]; again || slices.Contains(n.ownTopics(), prefix) {
		return nil
	}
	if err := n.xsub.Subscribe(prefix); err != nil {
		return err
	}
	n.topics[prefix] = struct{}{}
	return nil
}

// Unsubscribe undoes Subscribe. It does not wait.
func (n *Node) Unsubscribe(prefix string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.topics[prefix]; !ok {
		return nil
	}
	delete(n.topics, prefix)
	return n.xsub.Unsubscribe(prefix)
}

// Publish publishes an event. The types of the arguments must be those with which Zeek declares the
// event, see package event. Publish waits while the broker takes nothing, until ctx ends. An event
// whose topic nobody has subscribed is lost, as is one that is published before the node knows the
// subscriptions, see Ready.
func (n *Node) Publish(ctx context.Context, topic, name string, args ...any) error {
	payload, err := event.AppendEvent(nil, name, args)
	if err != nil {
		return err
	}
	if n.cfg.Format == JSON {
		payload = event.AppendJSON(nil, event.Raw(payload))
	}
	err = n.xpub.Send(ctx, zmtp.NewMessage([]byte(topic), []byte(n.id()),
		[]byte(n.cfg.Format.String()), payload))
	if err == nil {
		n.counts.published.Add(1)
	}
	return err
}

// Ready waits until the node is connected and knows all subscriptions that the broker had before
// this call, and the broker knows those of this node. From then on, an event reaches all who have
// subscribed its topic. Ready returns the cause of ctx's end if that comes first.
func (n *Node) Ready(ctx context.Context) error {
	seen := make(chan struct{})
	n.mu.Lock()
	topic := n.probe(func() { close(seen) })
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.probeEnds(topic)
	}()
	select {
	case <-seen:
		return nil
	case <-n.ended:
		return zmtp.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// probe calls passed when the broker has taken all subscriptions that the node has made before: a
// subscription of its own comes back to the node behind all that the broker has told it earlier
// (src/cluster/backend/zeromq/ZeroMQ.cc, DoReadyToPublishCallback). It returns the topic. Caller
// holds the lock, as does that of passed.
func (n *Node) probe(passed func()) (topic string) {
	n.probed++
	topic = fmt.Sprintf("%s%s.%d.", probeTopicPrefix, n.base, n.probed)
	n.probes[topic] = passed
	n.xsub.Subscribe(topic)
	return topic
}

// probeEnds ends a probe. Caller holds the lock.
func (n *Node) probeEnds(topic string) {
	if _, ok := n.probes[topic]; ok {
		delete(n.probes, topic)
		n.xsub.Unsubscribe(topic)
	}
}

// Shutdown leaves the cluster: it ends the subscriptions, by which the others see the node go,
// calls the handlers for the events that wait, and sends what was published. When ctx ends first,
// the rest is dropped and counted, and the error is that of ctx. Shutdown returns when all
// goroutines are gone. It may be called more than once, but not by a handler.
func (n *Node) Shutdown(ctx context.Context) error {
	var err error
	n.closing.Do(func() {
		n.update(func(m *membership, _ time.Time) {
			m.leave()
			n.left = true
		})
		err = n.xsub.Close()
		n.queue.close()
		n.greet.close()
		release := context.AfterFunc(ctx, n.stop)
		n.working.Wait()
		release()
		n.stop()
		err = errors.Join(err, n.xpub.Shutdown(ctx))
		n.reading.Wait()
		n.counts.dropped[AtEnd].Add(uint64(n.queued()))
		n.queue.discard()
		close(n.ended)
	})
	<-n.ended
	return err
}
