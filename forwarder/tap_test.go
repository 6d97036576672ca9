package forwarder

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const tapAddr = "10.0.0.1:5554"

// newTapBroker starts a broker with a tap.
func newTapBroker(t testing.TB, cfg Config) *broker {
	t.Helper()
	n := newBroker(t, cfg)
	n.serveTap(t)
	return n
}

func (n *broker) serveTap(t testing.TB) {
	t.Helper()
	l, err := n.net.Listen(tapAddr)
	if err == nil {
		_, err = n.ServeTap(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// taken collects what Tap.Take gets.
type taken struct{ collector }

// take keeps the messages and reads them later, when the batch is no longer valid.
func (k *taken) take(b *zmtp.Batch, runs []zmtp.Run) {
	kept := b.Keep(runs)
	for m := range kept.Messages() {
		k.add(m)
	}
	kept.Release()
}

// tapModel says what the copy must contain.
type tapModel struct {
	prefixes []string
	want     []string         // the whole copy
	subs     map[int][]string // the part of each subscriber of the copy
	topics   map[int][]string // the topics of each subscriber of the copy
}

func (m *tapModel) publish(topic, body string) {
	if !slices.ContainsFunc(m.prefixes,
		func(p string) bool { return strings.HasPrefix(topic, p) }) {
		return
	}
	m.want = append(m.want, topic+"|"+body)
	for i, all := range m.topics {
		if slices.ContainsFunc(all, func(p string) bool { return strings.HasPrefix(topic, p) }) {
			m.subs[i] = append(m.subs[i], topic+"|"+body)
		}
	}
}

// The copy has every message of the chosen topics once and in order, whatever subscribers exist. A
// subscriber of the copy gets the topics that it has subscribed to. Publishers are not told of it.
func TestTapModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		topic := rapid.SampledFrom(modelTopics)
		prefixes := rapid.SliceOfN(topic, 1, 3).Draw(rt, "prefixes")
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				op: rapid.SampledFrom([]string{"publish", "publish", "publish", "subscribe",
					"cancel", "broker's"}).Draw(t, "op"),
				who:   rapid.IntRange(0, 1).Draw(t, "who"),
				topic: topic.Draw(t, "topic"),
				mixed: rapid.SliceOfN(rapid.SampledFrom([]string{"", "b", "c"}), 1, 4).
					Draw(t, "mixed"),
				n: rapid.IntRange(1, 30).Draw(t, "n"),
			}
		}), 1, 30).Draw(rt, "steps")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = runTapModel(t, prefixes, steps) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func runTapModel(t *testing.T, prefixes []string, steps []step) string {
	var file taken
	n := newTapBroker(t, Config{Tap: &Tap{Topics: prefixes, Take: file.take}})
	defer n.Close()
	model := tapModel{prefixes: prefixes, subs: map[int][]string{}, topics: map[int][]string{}}
	pub, told := n.dialRaw(t, xsubAddr, wire.PUB), new(collector)
	defer pub.Close()
	go told.readCommands(t, pub)
	normal := n.dialRaw(t, xpubAddr, wire.SUB)
	defer normal.Close()
	go io.Copy(io.Discard, normal)
	var subs []*raw
	var got []*collector
	for range 2 {
		s, c := n.dialRaw(t, tapAddr, wire.SUB), new(collector)
		defer s.Close()
		go c.read(t, s)
		subs, got = append(subs, s), append(got, c)
	}
	var subscribed []string
	seq := 0
	for _, s := range steps {
		switch has := slices.Contains(model.topics[s.who], s.topic); {
		case s.op == "publish":
			var all []string
			for i := range s.n {
				seq++
				topic, body := s.topic+s.mixed[i%len(s.mixed)], fmt.Sprint(seq)
				model.publish(topic, body)
				all = append(all, topic+"|"+body)
			}
			pub.write(joined(all))
		case s.op == "broker's":
			normal.subscribe(s.topic, true)
			subscribed = append(subscribed, "\x01"+s.topic)
		case s.op == "subscribe" && !has:
			subs[s.who].subscribe(s.topic, true)
			model.topics[s.who] = append(model.topics[s.who], s.topic)
		case s.op == "cancel" && has:
			subs[s.who].subscribe(s.topic, false)
			model.topics[s.who] = slices.DeleteFunc(model.topics[s.who],
				func(t string) bool { return t == s.topic })
		}
		synctest.Wait()
	}
	if got := file.all(); !slices.Equal(got, model.want) {
		return fmt.Sprintf("taken %q, want %q", got, model.want)
	}
	for i, c := range got {
		if got := c.all(); !slices.Equal(got, model.subs[i]) {
			return fmt.Sprintf("subscriber %d of the copy got %q, want %q", i, got, model.subs[i])
		}
	}
	if got := told.all(); !slices.Equal(got, subscribed) {
		return fmt.Sprintf("the publisher was told %q, want %q", got, subscribed)
	}
	if st := n.Stats(); st.Tap.Copied.Messages != uint64(len(model.want)) ||
		len(st.Tap.Subscribers) != 2 || st.XPub.Dropped.Total()+st.Tap.Socket.Dropped.Total() > 0 {
		return fmt.Sprintf("copied %+v, %d subscribers, dropped %v and %v", st.Tap.Copied,
			len(st.Tap.Subscribers), st.XPub.Dropped, st.Tap.Socket.Dropped)
	}
	return ""
}

// A subscriber of the copy that does not read loses messages, and affects nobody else: even the
// policy Block, which would wait for a subscriber, does not wait for it. The log has one line at
// the beginning and one at the end.
func TestTapChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTapBroker(t, Config{Overload: Block,
			Tap: &Tap{Socket: zmtp.Config{SendHWM: crowdHWM}}})
		n.net.Buffer = 1 << 10
		sub := zmtp.NewSub(n.peerConfig())
		defer sub.Close()
		sub.Subscribe("t")
		if err := sub.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		healthy := collect(sub)
		stuck := n.dialRaw(t, tapAddr, wire.SUB)
		defer stuck.Close()
		stuck.subscribe("", true)
		pub := n.dialRaw(t, xsubAddr, wire.PUB)
		defer pub.Close()
		go func() {
			io.Copy(io.Discard, pub)
			pub.Close() // libzmq closes at the end of file, too
		}()
		synctest.Wait()
		begin := time.Now()
		for i := range 20 {
			pub.write(joined(sequence("t", 100*i, 100*(i+1))))
			synctest.Wait()
		}
		pub.write(joined(sequence("nobody", 0, 10)))
		synctest.Wait()
		if d := time.Since(begin); d > 0 {
			t.Errorf("publishers waited for %v", d)
		}
		equal(t, "the healthy subscriber", healthy.all(), sequence("t", 0, 2000))
		st := n.Stats()
		if st.Tap.Copied.Messages != 2010 || st.Received.Unmatched != 10 ||
			st.XPub.Dropped.Total() > 0 || st.ByTopic["t"].Dropped.Total() > 0 ||
			st.XPub.Out.Messages != 2000 {
			t.Errorf("copied %+v, %d unmatched, %+v, %v", st.Tap.Copied, st.Received.Unmatched,
				st.ByTopic["t"], st.XPub)
		}
		one := st.Tap.Subscribers[0]
		if one.Dropped[zmtp.DropFull] < 1000 ||
			one.Dropped[zmtp.DropFull] != st.Tap.Socket.Dropped[zmtp.DropFull] ||
			one.Out.Messages+one.Dropped.Total() != 2010 || one.SlowSince.IsZero() {
			t.Errorf("subscriber of the copy: %+v", one)
		}
		time.Sleep(time.Minute)
		if len(n.logs.matching(string(losesCopies))) != 1 || len(n.logs.matching()) != 1 {
			t.Errorf("logged %q", n.logs.matching())
		}
		// The subscriber reads again, and gets the oldest messages.
		kept := new(collector)
		go func() {
			kept.read(t, stuck)
			stuck.Close()
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		rest := sequence("t", 0, 2000)
		for _, m := range kept.all() {
			at := slices.Index(rest, m)
			if at < 0 {
				t.Fatalf("%q is out of order", m)
			}
			rest = rest[at+1:]
		}
		if got := len(kept.all()); got != int(one.Out.Messages) || got < crowdHWM {
			t.Errorf("%d messages, want %d", got, one.Out.Messages)
		}
		if len(n.logs.matching("has caught up",
			fmt.Sprint("dropped=", one.Dropped.Total()))) != 1 ||
			!n.Stats().Tap.Subscribers[0].SlowSince.IsZero() {
			t.Errorf("logged %q", n.logs.matching())
		}
		// Shutdown does not wait for such a subscriber either.
		another := n.dialRaw(t, tapAddr, wire.SUB)
		defer another.Close()
		another.subscribe("", true)
		synctest.Wait()
		for range 20 {
			pub.write(joined(sequence("t", 0, 100)))
			synctest.Wait()
		}
		begin = time.Now()
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d < tapLinger || d > tapLinger+time.Second {
			t.Errorf("the end took %v", d)
		}
		lost := n.Stats().Tap.Socket.Dropped
		if lost[zmtp.DropConnectionLost]+lost[zmtp.DropClosed] == 0 {
			t.Errorf("messages lost at the end are not counted: %v", lost)
		}
	})
}

// What a client may not publish is not in the copy. What a client may not subscribe to, it does not
// get from the copy either.
func TestTapPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file taken
		n := newPermitBroker(t, Config{Tap: &Tap{Take: file.take}},
			func(user string) (Permissions, error) {
				if user == "bound" {
					return Permissions{Publish: []string{"a."}, Subscribe: []string{"a."}}, nil
				}
				return Permissions{}, nil
			})
		defer n.Close()
		n.serveTap(t)
		got := map[string]*collector{}
		for _, user := range []string{"bound", "free"} {
			sub := zmtp.NewSub(n.as(user))
			defer sub.Close()
			for _, topic := range []string{"a.", "b.", ""} {
				sub.Subscribe(topic)
			}
			if err := sub.Connect("tcp://" + tapAddr); err != nil {
				t.Fatal(err)
			}
			got[user] = collect(sub)
		}
		synctest.Wait()
		normal := zmtp.NewSub(n.as("free")) // without it publishers would send nothing
		defer normal.Close()
		normal.Subscribe("")
		if err := normal.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"bound", "free"} {
			pub := zmtp.NewPub(n.as(user))
			defer pub.Close()
			if err := pub.Connect("tcp://" + xsubAddr); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for _, topic := range []string{"a.", "b.", "a."} {
				if err := pub.TrySend(zmtp.NewMessageString(topic, user)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		all := []string{"a.|bound", "a.|bound", "a.|free", "b.|free", "a.|free"}
		equal(t, "taken", file.all(), all)
		equal(t, "the client with all permissions", got["free"].all(), all)
		equal(t, "the client with permission for a.", got["bound"].all(),
			[]string{"a.|bound", "a.|bound", "a.|free", "a.|free"})
		if d := n.Stats().Denied["bound"]; d != (Denied{1, 2}) {
			t.Errorf("denied %+v", d)
		}
		n.ClosePeers(func(p *zmtp.Peer) error {
			if p.UserID() == "bound" {
				return fmt.Errorf("gone")
			}
			return nil
		})
		synctest.Wait()
		if subs := n.Stats().Tap.Subscribers; slices.ContainsFunc(subs,
			func(s SubscriberStats) bool { return s.UserID == "bound" }) {
			t.Errorf("subscribers of the copy: %+v", subs)
		}
	})
}

// Without configuration there is no tap.
func TestTapIsOff(t *testing.T) {
	f := New(Config{})
	defer f.Close()
	if _, err := f.ListenTap("tcp://127.0.0.1:*"); err == nil {
		t.Error("a tap listens without configuration")
	}
	if f.Stats().Tap != nil {
		t.Error("Stats has counters of a tap")
	}
}
