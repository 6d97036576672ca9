package forwarder

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp"
)

// The reference does what the broker must do, message by message, without any limit.

type refSubscriber struct {
	topics map[string]bool
	want   map[int][]string // key: publisher
}

type refPublisher struct{ told []string }

type reference struct {
	subs map[int]*refSubscriber
	pubs map[int]*refPublisher
}

// held returns the topics that have subscribers, in order.
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

// step is one event.
type step struct {
	op    string
	who   int
	kind  string
	topic string
	mixed []string // publish: bodies behind the topic, in turn
	n     int      // publish: number of messages; limit: number of messages that may wait
}

var modelTopics = []string{"", "a", "ab", "abc", "b", "\x01"}

func steps(t *rapid.T) []step {
	one := rapid.Custom(func(t *rapid.T) step {
		op := rapid.SampledFrom([]string{
			"attach", "detach", "subscribe", "subscribe", "subscribe", "cancel", "cancel",
			"attach publisher", "detach publisher", "publish", "publish", "publish", "stall",
			"go on", "up", "limit",
		}).Draw(t, "op")
		s := step{op: op, who: rapid.IntRange(0, 2).Draw(t, "who"),
			topic: rapid.SampledFrom(modelTopics).Draw(t, "topic")}
		switch op {
		case "attach", "attach publisher":
			s.kind = kind(t, op)
		case "publish":
			s.n = rapid.IntRange(1, 40).Draw(t, "n")
			s.mixed = rapid.SliceOfN(rapid.SampledFrom([]string{"", "b", "c"}), 1, 5).
				Draw(t, "mixed")
		case "limit":
			s.n = rapid.IntRange(1, 30).Draw(t, "limit")
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
	kinds := []string{"sub", "xsub", "xsub message", "raw", "trickle"}
	if op == "attach publisher" {
		kinds = []string{"xpub", "raw", "pub"}
	}
	return rapid.SampledFrom(kinds).Draw(t, "kind")
}

// TestModel compares the broker with the reference. Without a limit everything must be the same.
// With a limit, subscribers that stop or trickle may lose messages, until some time after they go
// on: exactly those that were counted, and never the order. The others lose nothing, and no
// publisher is held up for longer than allowed.
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

	limited bool // the subscribers' queues have a limit, which may change
	// time for which each publisher was held up before the current step
	held map[uint64]time.Duration
}

// recovery is the number of steps after which a subscriber that goes on has caught up.
const recovery = 3

// mayLose reports whether a subscriber may lose messages in the current step. It counts the steps.
func (s *modelSubscriber) mayLose() bool {
	if s.stalled || s.hurry != nil {
		s.since = 0
	}
	s.since++
	return s.since <= recovery
}

// checkLosses checks that in this step only those subscribers lost messages that may, and that
// publishers did not wait long.
func (m *model) checkLosses() error {
	st := m.Stats()
	if err := st.CheckAccounts(); err != nil {
		return err
	}
	dropped := map[string]uint64{}
	for _, s := range st.Subscribers {
		dropped[s.Remote.String()] = s.Dropped.Total()
	}
	for i, s := range m.subs {
		lost := dropped[s.conn.LocalAddr().String()]
		if !s.mayLose() && lost > s.dropped {
			return fmt.Errorf("subscriber %d keeps up, and lost %d messages", i, lost-s.dropped)
		}
		s.dropped = lost
	}
	for _, p := range st.Publishers {
		if d := p.Blocked - m.held[p.ID]; m.limited && d > defaultBudget+2*waitTick {
			return fmt.Errorf("a publisher was held up for %v", d)
		}
		m.held[p.ID] = p.Blocked
	}
	return nil
}

func runModel(t *testing.T, hwm, buffer int, todo []step) error {
	m := &model{
		t: t, broker: newBroker(t, Config{XPub: zmtp.Config{SendHWM: hwm}}),
		ref:  reference{map[int]*refSubscriber{}, map[int]*refPublisher{}},
		subs: map[int]*modelSubscriber{}, pubs: map[int]*modelPublisher{},
		limited: hwm > 0, held: map[uint64]time.Duration{},
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
		time.Sleep(holdWindow)
		synctest.Wait()
		err := m.compare(hwm)
		if err == nil {
			err = m.checkLosses()
		}
		if err != nil {
			return fmt.Errorf("after step %d %+v: %w", n, s, err)
		}
	}
	for i := range m.subs {
		m.subs[i].goOn()
	}
	time.Sleep(holdWindow)
	synctest.Wait()
	if err := m.complete(hwm); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// do applies s to the broker and to the reference. It skips a step that makes no sense in the
// current state.
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
		sub.sub.Subscribe(s.topic)
		m.ref.subscribe(s.who, s.topic)
	case s.op == "cancel" && sub != nil:
		if sub.kind == "sub" {
			// The reference filters by the topics at the time of sending, so messages on their way
			// must arrive first.
			sub.goOn()
			synctest.Wait()
		}
		sub.cancel(s.topic)
		if n := sub.counts[s.topic]; sub.kind == "raw" || sub.kind == "trickle" || n == 1 {
			m.ref.cancel(s.who, s.topic)
		}
		sub.counts[s.topic] = max(sub.counts[s.topic]-1, 0)
	case (s.op == "stall" || s.op == "go on") && sub != nil:
		sub.stalled = stalled[s.op]
		sub.conn.Stall(sub.stalled)
	case s.op == "up" && sub != nil && sub.up != nil:
		sub.up("\x02" + s.topic)
		m.ref.tell("\x02" + s.topic)
	case s.op == "limit" && m.limited:
		m.Reconfigure(Config{XPub: zmtp.Config{SendHWM: s.n}})
	}
}

// compare checks what must hold at any time: the subscriptions, and the order of the messages.
func (m *model) compare(hwm int) error {
	for j, p := range m.pubs {
		if p.told != nil && !slices.Equal(p.told.all(), m.ref.pubs[j].told) {
			return fmt.Errorf("publisher %d was told %q, want %q", j, p.told.all(),
				m.ref.pubs[j].told)
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
					return fmt.Errorf("subscriber %d got %q of publisher %d, want %q next", i, text,
						j, rest)
				}
				rest = rest[at+1:]
			}
		}
	}
	return nil
}

// complete checks, when no subscriber is stalled, that only counted messages are missing.
func (m *model) complete(hwm int) error {
	if err := m.compare(hwm); err != nil {
		return err
	}
	dropped := map[string]int{}
	for _, st := range m.Stats().Subscribers {
		dropped[st.Remote.String()] = int(st.Dropped.Total())
	}
	for i, s := range m.subs {
		want := 0
		for _, all := range m.ref.subs[i].want {
			want += len(all)
		}
		lost := dropped[s.conn.LocalAddr().String()]
		if got := len(s.got.all()); got+lost != want || hwm < 0 && lost > 0 {
			return fmt.Errorf("subscriber %d got %d messages, %d were dropped, want %d", i, got,
				lost, want)
		}
	}
	return nil
}

// byPublisher sorts messages by the publisher in their body.
func byPublisher(all []string) map[int][]string {
	sorted := map[int][]string{}
	for _, text := range all {
		var j, seq int
		if _, err := fmt.Sscanf(text[strings.LastIndexByte(text, '|')+1:], "%d-%d", &j,
			&seq); err != nil {
			panic(err)
		}
		sorted[j] = append(sorted[j], text)
	}
	return sorted
}
