package zmtp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A world is a network of sockets of all types, and a model of what they may and must receive:
//
//   - Nothing is received that was not sent to a socket to which the receiver is linked.
//   - A message of a publisher reaches each subscriber that had subscribed it, once over each link.
//     Others reach exactly one peer of their sender, and a reply the one who asked.
//   - Of that "exactly" becomes "at most" when a link of the sender is cut, disconnected or closed
//     before the message was received, or the receiver changes its subscriptions.
//   - A send finds room when all links of the socket are up and its queues are not full: in some
//     worlds they hold few messages, of which a publisher drops those without room.
//
// The world is quiet between two actions: everything that can be received has been.
type world struct {
	t       *testing.T
	network *zmtptest.Network
	nodes   []*node
	links   []*link
	sent    map[string]*sending // by body
	hwm     int                 // high-water mark of all sockets, 0 for one that is not reached
	number  int
	history []string // for the failure
}

func (w *world) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", strings.Join(w.history, "\n"), fmt.Sprintf(format, args...))
}

// A node is a socket.
type node struct {
	*vectorSocket
	name  string
	addr  string // at which it listens, in memory and inproc
	subs  map[string]int
	gone  bool
	asked string // a REQ has sent this, and waits for the reply
	hasty bool   // a REQ has asked again without a reply: any late one may be taken for the next
	burst int    // how many messages it has sent since its queues were empty
}

// full reports whether a queue of n may be full, for the next message that it sends.
func (w *world) full(n *node) bool { return w.hwm > 0 && n.burst >= w.hwm }

// A link is an endpoint to which a node has connected.
type link struct {
	from, to *node // from has connected
	endpoint string
	inproc   bool
	stalled  bool
	vague    bool // stalled when a subscription changed
	gone     bool
	ghost    bool // gone while it was stalled: to has not heard of that
}

// A sending is a message.
type sending struct {
	from  *node
	topic string         // of a publisher's
	to    map[*node]int  // how often each node may receive it; nil: one peer of the sender, once
	must  map[*node]bool // which of them has to receive it that often
	exact bool           // without to: it has to be received
	got   map[*node]int
}

func (s *sending) total() (n int) {
	for _, k := range s.got {
		n += k
	}
	return n
}

var topicsOfWorld = []string{"", "a", "ab", "b"}

func publishes(typ wire.SocketType) bool {
	return typ == wire.PUB || typ == wire.XPUB || typ == wire.RADIO
}

func (w *world) linksOf(n *node) (all []*link) {
	for _, l := range w.links {
		if !l.gone && (l.from == n || l.to == n) {
			all = append(all, l)
		}
	}
	return all
}

// calm reports whether all links of n are up and deliver, and there is one.
func (w *world) calm(n *node) bool {
	all := w.linksOf(n)
	return len(all) > 0 && !w.stalled(n) && !slices.ContainsFunc(all, func(l *link) bool {
		return l.to.gone || l.from.gone
	})
}

func (w *world) stalled(n *node) bool {
	return slices.ContainsFunc(w.links, func(l *link) bool {
		return !l.gone && l.stalled && (l.from == n || l.to == n) || l.ghost && l.to == n
	})
}

// disturb notes that what n has sent and nobody has received may be lost.
func (w *world) disturb(n *node) {
	for _, s := range w.sent {
		if s.from == n {
			s.exact, s.must = false, nil
		}
	}
}

func (w *world) open(typ wire.SocketType) {
	w.number++
	n := &node{name: fmt.Sprintf("%s%d", typ, w.number), addr: fmt.Sprintf("h%d:1", w.number),
		subs: make(map[string]int)}
	cfg := quick
	cfg.SendHWM, cfg.RecvHWM = w.hwm, w.hwm
	n.vectorSocket = openType(typ, inMemory(w.network, cfg))
	bind(w.t, w.network, n.Socket, n.addr)
	if _, err := n.Listen("inproc://" + n.addr); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
}

// alive returns the nodes for which ok is true.
func (w *world) alive(ok func(*node) bool) (all []*node) {
	for _, n := range w.nodes {
		if !n.gone && ok(n) {
			all = append(all, n)
		}
	}
	return all
}

func (w *world) connect(from, to *node, inproc bool) {
	l := &link{from: from, to: to, inproc: inproc, endpoint: "tcp://" + to.addr}
	if inproc {
		l.endpoint = "inproc://" + to.addr
	}
	single := kinds()[from.local].single
	for _, other := range w.linksOf(from) {
		if other.from == from && other.endpoint == l.endpoint {
			return // some types ignore a second Connect to an endpoint
		}
	}
	if single && (len(w.linksOf(from)) > 0 || len(w.linksOf(to)) > 0 || w.stalled(from) ||
		w.stalled(to)) {
		return // a PAIR has one peer, perhaps a ghost
	}
	if err := from.Connect(l.endpoint); err != nil {
		w.t.Fatal(err)
	}
	w.links = append(w.links, l)
	w.note("%s connects to %s, %s", from.name, to.name, l.endpoint)
}

// send lets a node send a message of its own.
func (w *world) send(n *node, topic string) {
	w.number++
	body := fmt.Sprintf("%s/%d", n.name, w.number)
	s := &sending{from: n, got: make(map[*node]int)}
	m := NewMessageString(body)
	switch {
	case publishes(n.local):
		m, s.topic = NewMessageString(topic, body), topic
		s.to, s.must = make(map[*node]int), make(map[*node]bool)
		for _, l := range w.linksOf(n) {
			if sub := l.other(n); !sub.gone && (sub.wants(topic) || l.vague) {
				s.to[sub]++
				s.must[sub] = !l.vague && (s.must[sub] || s.to[sub] == 1)
			}
		}
	case n.local == wire.DEALER:
		m = NewMessageString("", body)
	}
	err, full := n.sendTo(m), w.full(n)
	w.note("%s sends %q: %v", n.name, text(m), err)
	n.burst++
	switch {
	case err == nil:
		s.exact = s.to == nil
		if full {
			s.must = nil
		}
		w.sent[body] = s
		if n.local == wire.REQ {
			n.hasty = n.hasty || n.asked != ""
			n.asked = body
		}
	case err != ErrWouldBlock && err != ErrNoPeer:
		w.fatalf("%s: %v", n.name, err)
	case w.calm(n) && !full:
		w.fatalf("%s has all its peers, and no room", n.name)
	}
}

func (l *link) other(n *node) *node {
	if l.from == n {
		return l.to
	}
	return l.from
}

// wants reports whether n has subscribed a topic.
func (n *node) wants(topic string) bool {
	for sub := range n.subs {
		if n.local == wire.DISH && sub == topic ||
			n.local != wire.DISH && strings.HasPrefix(topic, sub) {
			return true
		}
	}
	return false
}

// receive notes a message that n has received, and answers it.
func (w *world) receive(n *node, m Message) {
	parts := strings.Split(text(m), ",")
	if n.local == wire.XPUB {
		return // a subscription
	}
	body := parts[len(parts)-1]
	s := w.sent[body]
	if s == nil {
		w.fatalf("%s received %q, which nobody has sent", n.name, text(m))
	}
	s.got[n]++
	w.note("%s received %q", n.name, text(m))
	if body == "re:"+n.asked {
		n.asked = ""
	}
	switch {
	case s.to != nil && s.got[n] > s.to[n]:
		w.fatalf("%s received %q %d times, at most %d", n.name, body, s.got[n], s.to[n])
	case s.to == nil && s.total() > 1:
		w.fatalf("%q was received twice: %v", body, names(s.got))
	case s.topic != "" && parts[0] != s.topic:
		w.fatalf("%s received %q, the topic was %q", n.name, text(m), s.topic)
	}
	w.answer(n, m, body, s.from)
}

func names(got map[*node]int) (all []string) {
	for n := range got {
		all = append(all, n.name)
	}
	return all
}

// answer sends a reply, if n is of a type that replies.
func (w *world) answer(n *node, m Message, body string, to *node) {
	reply := NewMessageString("re:" + body)
	switch {
	case strings.HasPrefix(body, "re:"):
		return
	case n.local == wire.ROUTER:
		id, _ := m.CutPart()
		parts := []string{string(id), "", "re:" + body}
		if to.local != wire.REQ && to.local != wire.DEALER {
			parts = []string{string(id), "re:" + body}
		}
		reply = NewMessageString(parts...)
	case n.local != wire.REP && n.local != wire.SERVER && n.local != wire.PEER:
		return
	}
	full := w.full(n)
	n.burst++
	switch err := n.sendTo(reply); {
	case err == ErrWouldBlock && full:
		return
	case err != nil && err != ErrNoPeer:
		w.fatalf("%s replies: %v", n.name, err)
	}
	s := &sending{from: n, to: map[*node]int{to: 1}, must: make(map[*node]bool),
		got: make(map[*node]int)}
	s.must[to] = !full && !to.gone && (to.local != wire.REQ || !to.hasty) && w.calm(to) && w.calm(n)
	if n.local == wire.SERVER || n.local == wire.PEER {
		s.to, s.exact = nil, s.must[to] // see openType: when to is lost, any peer gets it
		s.must = nil
	}
	w.sent["re:"+body] = s
}

// settle lets everything be received, and checks that what must be received was.
func (w *world) settle() {
	time.Sleep(time.Second) // lost connections come back
	for progress := true; progress; {
		progress = false
		synctest.Wait()
		for _, n := range w.alive(func(n *node) bool { return n.recv != nil }) {
			for {
				m, err := n.recv()
				if err != nil {
					if err != ErrWouldBlock && err != ErrState {
						w.fatalf("%s: %v", n.name, err)
					}
					break
				}
				progress = true
				w.receive(n, m)
			}
		}
	}
	for body, s := range w.sent {
		if s.from.gone {
			s.exact, s.must = false, nil
		}
		if !w.calm(s.from) {
			continue
		}
		if s.exact && s.total() != 1 {
			w.fatalf("%q was received by nobody", body)
		}
		for n, must := range s.must {
			if must && !n.gone && w.calm(n) && s.got[n] != s.to[n] {
				w.fatalf("%s received %q %d times, want %d", n.name, body, s.got[n], s.to[n])
			}
		}
		s.exact, s.must = false, nil // done
	}
	for _, n := range w.nodes {
		if w.calm(n) {
			n.burst = 0
		}
	}
}

// change subscribes a topic or cancels it.
func (w *world) change(n *node, topic string, on bool) {
	f := n.unsubscribe
	switch {
	case on && n.local == wire.DISH && n.subs[topic] > 0, !on && n.subs[topic] == 0:
		return
	case on:
		f = n.subscribe
		n.subs[topic]++
	default:
		if n.subs[topic]--; n.subs[topic] == 0 {
			delete(n.subs, topic)
		}
	}
	w.note("%s changes %q: %v", n.name, topic, on)
	if err := f([]byte(topic)); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range w.sent {
		delete(s.must, n)
	}
	for _, l := range w.linksOf(n) {
		l.vague = l.vague || l.stalled
	}
}

// Random networks of sockets keep to the rules of world.
func TestNetworkModel(t *testing.T) {
	rounds := 1
	if testkit.Nightly() {
		rounds = 50
	}
	types := make([]wire.SocketType, 0, 19)
	for typ := range kinds() {
		types = append(types, typ)
	}
	slices.Sort(types)
	for range rounds {
		rapid.Check(t, func(rt *rapid.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				w := &world{t: t, network: n, sent: make(map[string]*sending)}
				w.hwm = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(rt, "hwm")
				defer func() {
					for _, n := range w.alive(func(*node) bool { return true }) {
						closeNow(t, n.Socket)
					}
				}()
				w.play(rt, types)
			})
		})
	}
}

// play performs random actions.
func (w *world) play(rt *rapid.T, types []wire.SocketType) {
	// pick draws one of all, or reports that there is none.
	pickNode := func(rt *rapid.T, all []*node) *node {
		if len(all) == 0 {
			return nil
		}
		return all[rapid.IntRange(0, len(all)-1).Draw(rt, "node")]
	}
	pickLink := func(rt *rapid.T, ok func(*link) bool) *link {
		var all []*link
		for _, l := range w.links {
			if !l.gone && ok(l) {
				all = append(all, l)
			}
		}
		if len(all) == 0 {
			return nil
		}
		return all[rapid.IntRange(0, len(all)-1).Draw(rt, "link")]
	}
	connect := func(rt *rapid.T) {
		from := pickNode(rt, w.alive(func(*node) bool { return true }))
		if from == nil {
			return
		}
		to := pickNode(rt, w.alive(func(n *node) bool {
			return n != from && from.local.Accepts(n.local)
		}))
		if to != nil {
			w.connect(from, to, rapid.Bool().Draw(rt, "inproc"))
		}
	}
	send := func(rt *rapid.T) {
		n := pickNode(rt, w.alive(func(n *node) bool {
			switch n.local {
			case wire.REP, wire.ROUTER, wire.SERVER, wire.XSUB:
				return false // they answer, or have nothing to say
			}
			return n.sendTo != nil
		}))
		if n != nil {
			for range rapid.IntRange(1, 5).Draw(rt, "n") {
				w.send(n, rapid.SampledFrom([]string{"a", "abc", "b", "c"}).Draw(rt, "topic"))
			}
		}
	}
	change := func(rt *rapid.T) {
		n := pickNode(rt, w.alive(func(n *node) bool { return n.subscribe != nil }))
		if n != nil {
			w.change(n, rapid.SampledFrom(topicsOfWorld).Draw(rt, "topic"),
				rapid.IntRange(0, 2).Draw(rt, "on") > 0)
		}
	}
	// A pair of types that fit, in one action, so that most worlds have something to do.
	pair := func(rt *rapid.T) {
		if len(w.nodes) > 12 {
			return
		}
		typ := rapid.SampledFrom(types).Draw(rt, "type")
		w.open(typ)
		w.open(kinds()[typ].peer)
		w.connect(w.nodes[len(w.nodes)-1], w.nodes[len(w.nodes)-2],
			rapid.Bool().Draw(rt, "inproc"))
	}
	rt.Repeat(map[string]func(*rapid.T){
		"pair":      pair,
		"connect":   connect,
		"connect 2": connect,
		"send":      send,
		"send 2":    send,
		"send 3":    send,
		"change":    change,
		"change 2":  change,
		"cut": func(rt *rapid.T) {
			if l := pickLink(rt, func(l *link) bool { return !l.inproc }); l != nil {
				for _, c := range w.network.Conns(l.to.addr) { // of all links to the same listener
					c.Cut()
				}
				w.note("cut the connections to %s", l.to.name)
				w.cut(l.to)
			}
		},
		"stall": func(rt *rapid.T) {
			l := pickLink(rt, func(l *link) bool { return !l.inproc && !l.to.gone })
			if l == nil {
				return
			}
			on := !l.stalled && !slices.ContainsFunc(w.links, func(other *link) bool {
				return other.ghost && other.to == l.to
			})
			w.note("stall the connections to %s: %v", l.to.name, on)
			for _, c := range w.network.Conns(l.to.addr) {
				c.Stall(on)
				c.Peer().Stall(on)
			}
			for _, other := range w.links {
				if other.ghost && other.to == l.to {
					other.ghost = false
					w.disturb(l.to) // what it sent there is lost
				}
				if other.to == l.to && !other.inproc && !other.gone {
					other.stalled = on
					other.vague = other.vague && on
				}
			}
		},
		"disconnect": func(rt *rapid.T) {
			if l := pickLink(rt, func(*link) bool { return true }); l != nil {
				w.disturb(l.from)
				w.disturb(l.to)
				l.gone, l.ghost = true, l.stalled
				w.note("%s disconnects from %s", l.from.name, l.endpoint)
				if err := l.from.Disconnect(l.endpoint); err != nil {
					w.t.Fatal(err)
				}
			}
		},
		"close": func(rt *rapid.T) {
			n := pickNode(rt, w.alive(func(*node) bool { return true }))
			if n == nil {
				return
			}
			w.disturb(n)
			for _, l := range w.linksOf(n) {
				w.disturb(l.other(n))
				if l.from == n {
					l.gone, l.ghost = true, l.stalled
				}
			}
			n.gone = true
			w.note("close %s", n.name)
			closeNow(w.t, n.Socket)
		},
		"": func(*rapid.T) { w.settle() },
	})
}

// cut notes that all connections in memory to a listener were cut.
func (w *world) cut(to *node) {
	for _, l := range w.links {
		if l.to == to && !l.inproc {
			w.disturb(l.from)
			w.disturb(l.to)
			l.stalled, l.vague = false, false
		}
	}
}
