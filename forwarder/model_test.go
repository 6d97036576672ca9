package forwarder

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// The reference: what the broker has to do, message by message, without any limit.

type refSubscriber struct {
	topics map[string]bool
	want   map[int][]string // by publisher
}

type refPublisher struct{ told []string }

type reference struct {
	subs map[int]*refSubscriber
	pubs map[int]*refPublisher
}

// held returns the topics that somebody holds, in order.
func (r *reference) held() []string {
	var all []string
	for _, s := range r.subs {
		for topic := range s.topics {
			all = append(all, topic)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (r *reference) tell(text string) {
	for _, p := range r.pubs {
		p.told = append(p.told, text)
	}
}

func (r *reference) attachPublisher(j int) {
	p := new(refPublisher)
	for _, topic := range r.held() {
		p.told = append(p.told, "\x01"+topic)
	}
	r.pubs[j] = p
}

func (r *reference) attach(i int) {
	r.subs[i] = &refSubscriber{topics: map[string]bool{}, want: map[int][]string{}}
}

func (r *reference) subscribe(i int, topic string) {
	r.subs[i].topics[topic] = true
	r.tell("\x01" + topic)
}

func (r *reference) cancel(i int, topic string) {
	if s := r.subs[i]; s.topics[topic] {
		delete(s.topics, topic)
		if !slices.Contains(r.held(), topic) {
			r.tell("\x00" + topic)
		}
	}
}

func (r *reference) detach(i int) {
	before := r.held()
	delete(r.subs, i)
	for _, topic := range before {
		if !slices.Contains(r.held(), topic) {
			r.tell("\x00" + topic)
		}
	}
}

func (r *reference) publish(j int, topic, body string) {
	for _, s := range r.subs {
		for t := range s.topics {
			if strings.HasPrefix(topic, t) {
				s.want[j] = append(s.want[j], topic+"|"+body)
				break
			}
		}
	}
}

// The peers of the real broker.

// A modelSubscriber sends SUBSCRIBE and CANCEL as it is told to, or is a socket that counts.
type modelSubscriber struct {
	kind   string // as of a step
	sub    interface{ Subscribe([]byte) error }
	cancel func([]byte) error
	up     func(string)
	close  func()
	counts map[string]int // of a socket
	conn   *zmtptest.Conn // the subscriber's end
	got    collector
}

type modelPublisher struct {
	send  func([]zmtp.Message)
	close func()
	told  *collector // nil for one that cannot say
}

// step is one thing that happens.
type step struct {
	op    string
	who   int
	kind  string
	topic string
	mixed []string // publish: what comes behind the topic, in turn
	n     int      // publish: messages
}

var modelTopics = []string{"", "a", "ab", "abc", "b", "\x01"}

func steps(t *rapid.T) []step {
	one := rapid.Custom(func(t *rapid.T) step {
		op := rapid.SampledFrom([]string{
			"attach", "detach", "subscribe", "subscribe", "subscribe", "cancel", "cancel",
			"attach publisher", "detach publisher", "publish", "publish", "publish", "stall", "go on", "up",
		}).Draw(t, "op")
		s := step{op: op, who: rapid.IntRange(0, 2).Draw(t, "who"), topic: rapid.SampledFrom(modelTopics).Draw(t, "topic")}
		switch op {
		case "attach", "attach publisher":
			s.kind = kind(t, op)
		case "publish":
			s.n = rapid.IntRange(1, 40).Draw(t, "n")
			s.mixed = rapid.SliceOfN(rapid.SampledFrom([]string{"", "b", "c"}), 1, 5).Draw(t, "mixed")
		}
		return s
	})
	var all []step
	for who := range 3 {
		for _, op := range []string{"attach", "attach publisher"} {
			all = append(all, step{op: op, who: who, kind: kind(t, op)})
		}
	}
	return append(all, rapid.SliceOfN(one, 40, 160).Draw(t, "steps")...)
}

func kind(t *rapid.T, op string) string {
	kinds := []string{"sub", "xsub", "xsub message", "raw"}
	if op == "attach publisher" {
		kinds = []string{"xpub", "raw", "pub"}
	}
	return rapid.SampledFrom(kinds).Draw(t, "kind")
}

// TestModel compares the broker with the reference. Without a limit everything must be the same; with one, subscribers that
// stall may lose messages, but exactly those that were counted, and never their order.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hwm := rapid.SampledFrom([]int{-1, 5}).Draw(rt, "hwm")
		buffer := rapid.SampledFrom([]int{512, 32 << 10}).Draw(rt, "buffer")
		todo := steps(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = runModel(t, hwm, buffer, todo) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

type model struct {
	*broker
	t    *testing.T
	ref  reference
	subs map[int]*modelSubscriber
	pubs map[int]*modelPublisher
	seq  int
	cfg  zmtp.Config
}

func runModel(t *testing.T, hwm, buffer int, todo []step) error {
	m := &model{
		t: t, broker: newBroker(t, Config{XPub: zmtp.Config{SendHWM: hwm}}),
		ref:  reference{map[int]*refSubscriber{}, map[int]*refPublisher{}},
		subs: map[int]*modelSubscriber{}, pubs: map[int]*modelPublisher{},
	}
	m.net.Buffer = buffer
	m.cfg = m.peerConfig()
	m.cfg.SendHWM, m.cfg.RecvHWM = -1, -1
	defer func() {
		for i := range m.subs {
			m.subs[i].close()
		}
		for j := range m.pubs {
			m.pubs[j].close()
		}
		m.Close()
	}()
	for n, s := range todo {
		m.do(s)
		// Long enough for a stalled subscriber to be found out.
		time.Sleep(10 * DefaultStallTimeout)
		synctest.Wait()
		if err := m.compare(hwm); err != nil {
			return fmt.Errorf("after step %d %+v: %w", n, s, err)
		}
	}
	for i := range m.subs {
		m.subs[i].conn.Stall(false)
	}
	time.Sleep(10 * DefaultStallTimeout)
	synctest.Wait()
	if err := m.complete(hwm); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// do lets s happen in the broker and in the reference. What makes no sense at the time is left out.
func (m *model) do(s step) {
	sub, pub := m.subs[s.who], m.pubs[s.who]
	stalled := map[string]bool{"stall": true, "go on": false}
	switch {
	case s.op == "attach":
		if sub != nil {
			m.do(step{op: "detach", who: s.who})
		}
		m.subs[s.who] = m.attach(s.kind)
		m.ref.attach(s.who)
	case s.op == "attach publisher":
		if pub != nil {
			m.do(step{op: "detach publisher", who: s.who})
		}
		m.pubs[s.who] = m.attachPublisher(s.kind)
		m.ref.attachPublisher(s.who)
	case s.op == "detach" && sub != nil:
		sub.close()
		synctest.Wait()
		delete(m.subs, s.who)
		m.ref.detach(s.who)
	case s.op == "detach publisher" && pub != nil:
		pub.close()
		synctest.Wait()
		delete(m.pubs, s.who)
		delete(m.ref.pubs, s.who)
	case s.op == "publish" && pub != nil:
		var all []zmtp.Message
		for n := range s.n {
			m.seq++
			topic, body := s.topic+s.mixed[n%len(s.mixed)], fmt.Sprintf("%d-%d", s.who, m.seq)
			all = append(all, zmtp.NewMessageString(topic, body))
			m.ref.publish(s.who, topic, body)
		}
		pub.send(all)
	case s.op == "subscribe" && sub != nil:
		sub.counts[s.topic]++
		sub.sub.Subscribe([]byte(s.topic))
		m.ref.subscribe(s.who, s.topic)
	case s.op == "cancel" && sub != nil:
		if sub.kind == "sub" {
			// It filters what it gets by what it holds then, so what is on its way must arrive first.
			sub.conn.Stall(false)
			synctest.Wait()
		}
		sub.cancel([]byte(s.topic))
		if n := sub.counts[s.topic]; sub.kind == "raw" || n == 1 {
			m.ref.cancel(s.who, s.topic)
		}
		sub.counts[s.topic] = max(sub.counts[s.topic]-1, 0)
	case (s.op == "stall" || s.op == "go on") && sub != nil:
		sub.conn.Stall(stalled[s.op])
	case s.op == "up" && sub != nil && sub.up != nil:
		sub.up("\x02" + s.topic)
		m.ref.tell("\x02" + s.topic)
	}
}

// compare checks what is settled at any time: the subscriptions, and the order of the messages.
func (m *model) compare(hwm int) error {
	for j, p := range m.pubs {
		if p.told != nil && !slices.Equal(p.told.all(), m.ref.pubs[j].told) {
			return fmt.Errorf("publisher %d was told %q, want %q", j, p.told.all(), m.ref.pubs[j].told)
		}
	}
	if got, want := m.Stats().Topics, len(m.ref.held()); got != want {
		return fmt.Errorf("%d topics, want %d", got, want)
	}
	for i, s := range m.subs {
		for j, got := range byPublisher(s.got.all()) {
			rest := m.ref.subs[i].want[j]
			for _, text := range got {
				at := slices.Index(rest, text)
				if at < 0 || at > 0 && hwm < 0 {
					return fmt.Errorf("subscriber %d got %q of publisher %d, want %q next", i, text, j, rest)
				}
				rest = rest[at+1:]
			}
		}
	}
	return nil
}

// complete checks that nothing is missing but what was counted, when nobody is stalled.
func (m *model) complete(hwm int) error {
	if err := m.compare(hwm); err != nil {
		return err
	}
	dropped := map[string]int{}
	for _, st := range m.Stats().Subscribers {
		dropped[st.Remote.String()] = int(st.Dropped)
	}
	for i, s := range m.subs {
		want := 0
		for _, all := range m.ref.subs[i].want {
			want += len(all)
		}
		lost := dropped[s.conn.LocalAddr().String()]
		if got := len(s.got.all()); got+lost != want || hwm < 0 && lost > 0 {
			return fmt.Errorf("subscriber %d got %d messages, %d were dropped, want %d", i, got, lost, want)
		}
	}
	return nil
}

// byPublisher sorts messages by the publisher that their body names.
func byPublisher(all []string) map[int][]string {
	sorted := map[int][]string{}
	for _, text := range all {
		var j, seq int
		if _, err := fmt.Sscanf(text[strings.LastIndexByte(text, '|')+1:], "%d-%d", &j, &seq); err != nil {
			panic(err)
		}
		sorted[j] = append(sorted[j], text)
	}
	return sorted
}

func (m *model) attach(kind string) *modelSubscriber {
	s := &modelSubscriber{kind: kind, counts: map[string]int{}}
	connect := func(socket interface {
		receiver
		Connect(string) error
		Close() error
	}) {
		if err := socket.Connect("tcp://" + xpubAddr); err != nil {
			m.t.Fatal(err)
		}
		go s.got.receive(socket)
		s.close = func() { socket.Close() }
	}
	switch kind {
	case "sub":
		sub := zmtp.NewSub(m.cfg)
		s.sub, s.cancel = sub, sub.Unsubscribe
		connect(sub)
	case "xsub":
		xsub := zmtp.NewXSub(m.cfg)
		s.sub, s.cancel = xsub, xsub.Unsubscribe
		s.up = func(text string) { xsub.Send(zmtp.NewMessageString(text)) }
		connect(xsub)
	case "xsub message":
		xsub := zmtp.NewXSub(m.cfg)
		s.sub = sendSubscription(func(topic []byte) error { return xsub.Send(zmtp.NewMessageString("\x01" + string(topic))) })
		s.cancel = func(topic []byte) error { return xsub.Send(zmtp.NewMessageString("\x00" + string(topic))) }
		connect(xsub)
	case "raw":
		r := m.dialRaw(m.t, xpubAddr, wire.XSUB)
		s.sub = sendSubscription(func(topic []byte) error { r.subscribe(string(topic), true); return nil })
		s.cancel = func(topic []byte) error { r.subscribe(string(topic), false); return nil }
		s.up = func(text string) { r.write(zmtp.NewMessageString(text).Wire()) }
		s.close = func() { r.Close() }
		go s.got.read(m.t, r)
	}
	synctest.Wait()
	conns := m.net.Conns(xpubAddr)
	s.conn = conns[len(conns)-1].Peer()
	return s
}

type sendSubscription func([]byte) error

func (f sendSubscription) Subscribe(topic []byte) error { return f(topic) }

func (m *model) attachPublisher(kind string) *modelPublisher {
	p := new(modelPublisher)
	switch kind {
	case "xpub":
		xpub := zmtp.NewXPub(m.cfg, zmtp.XPubOptions{Verboser: true})
		if err := xpub.Connect("tcp://" + xsubAddr); err != nil {
			m.t.Fatal(err)
		}
		p.told = collect(xpub)
		p.send = func(all []zmtp.Message) {
			for _, msg := range all {
				xpub.TrySend(msg)
			}
		}
		p.close = func() { xpub.Close() }
	case "pub":
		pub := zmtp.NewPub(m.cfg)
		if err := pub.Connect("tcp://" + xsubAddr); err != nil {
			m.t.Fatal(err)
		}
		p.send = func(all []zmtp.Message) {
			for _, msg := range all {
				pub.Send(msg)
			}
		}
		p.close = func() { pub.Close() }
	case "raw": // which sends what nobody has asked for
		r := m.dialRaw(m.t, xsubAddr, wire.PUB)
		go io.Copy(io.Discard, r)
		writes := make(chan []byte, 1000)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for b := range writes {
				r.write(b)
			}
		}()
		p.send = func(all []zmtp.Message) {
			var b []byte
			for _, msg := range all {
				b = append(b, msg.Wire()...)
			}
			writes <- b
		}
		p.close = func() { close(writes); <-ended; r.Close() }
	}
	return p
}

// TestSubscriptionsRace lets subscriptions, cancellations, losses of subscribers and new publishers race: in the end
// each publisher has been told what holds.
func TestSubscriptionsRace(t *testing.T) {
	f := New(Config{})
	defer shutdown(t, f)
	in, err := f.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	var wg sync.WaitGroup
	var lasting []*zmtp.Sub
	for i := range 4 { // each on its own
		sub := zmtp.NewSub(zmtp.Config{})
		if err := sub.Connect(out); err != nil {
			t.Fatal(err)
		}
		lasting = append(lasting, sub)
		wg.Go(func() {
			for n := range 1000 {
				topic := []byte(modelTopics[(n+i)%len(modelTopics)])
				sub.Subscribe(topic)
				if n%3 > 0 {
					sub.Unsubscribe(topic)
				}
				if n%100 == 0 {
					passing := zmtp.NewSub(zmtp.Config{})
					passing.Subscribe(topic)
					passing.Subscribe(fmt.Append(nil, "passing", i, n))
					passing.Connect(out)
					passing.Close()
				}
			}
			sub.Subscribe(fmt.Append(nil, "last", i))
		})
	}
	var pubs []*zmtp.XPub
	for range 8 {
		pub := zmtp.NewXPub(zmtp.Config{RecvHWM: -1}, zmtp.XPubOptions{Verboser: true})
		if err := pub.Connect(in); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is there, so that they come one after the other", func() bool { return pub.Topics() > 0 })
		pubs = append(pubs, pub)
	}
	wg.Wait()
	want := slices.Clone(modelTopics)
	for i := range lasting {
		want = append(want, fmt.Sprint("last", i))
	}
	slices.Sort(want)
	for j, pub := range pubs {
		now := map[string]bool{}
		for !slices.Equal(sortedKeys(now), want) {
			m, err := pub.Recv(ctx)
			if err != nil {
				t.Fatalf("publisher %d knows %q, want %q: %v", j, sortedKeys(now), want, err)
			}
			text := m.Part(0)
			if text[0] == 1 {
				now[string(text[1:])] = true
			} else {
				delete(now, string(text[1:]))
			}
		}
	}
	for _, sub := range lasting {
		sub.Close()
	}
	for j, pub := range pubs {
		for pub.Topics() > 0 {
			if _, err := pub.Recv(ctx); err != nil {
				t.Fatalf("publisher %d: %d topics are left: %v", j, pub.Topics(), err)
			}
		}
		pub.Close()
	}
}

func sortedKeys(m map[string]bool) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
