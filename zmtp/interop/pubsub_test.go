//go:build unix

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// notifications is what an XPUB tells its application in each step of xpubScript, by its mode:
// libzmq's xpub_verbose with more steps. "+a" is a subscription, "-a" a cancellation. A SUB sends
// each of its subscriptions, but a cancellation only for the last.
var notifications = map[string][]string{
	//             sub1 +a  sub1 +a  sub2 +a  sub1 -a  sub1 -a  sub2 -a  both +b   sub2 closes  sub1 closes
	"default":  {"+a", "", "", "", "", "-a", "+b", "", "-b"},
	"verbose":  {"+a", "+a", "+a", "", "", "-a", "+b +b", "", "-b"},
	"verboser": {"+a", "+a", "+a", "", "-a", "-a", "+b +b", "-b", "-b"},
}

// TestXPubNotifications has each side's XPUB and SUB go through the same steps, libzmq's among
// themselves too: that shows that the table is libzmq's.
func TestXPubNotifications(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	for _, role := range append(roles(p), [2]side{libzmq{p}, libzmq{p}}) {
		for mode, want := range notifications {
			for _, kind := range []string{"SUB", "XSUB"} {
				t.Run(fmt.Sprintf("XPUB of %v/%s of %v/%s", role[0], kind, role[1], mode),
					func(t *testing.T) {
						xpub := role[0].open(t, "XPUB",
							options{verbose: mode == "verbose", verboser: mode == "verboser"})
						endpoint := xpub.listen("tcp://127.0.0.1:*")
						s1, s2 := role[1].open(t, kind, options{}), role[1].open(t, kind, options{})
						observer := role[1].open(t, "SUB", options{})
						for _, s := range []end{s1, s2, observer} {
							s.connect(endpoint)
						}
						want := slices.Clone(want)
						if role[0] == side(ours{}) && mode == "verboser" {
							// Two subscriptions were told and one cancellation; ours makes that
							// even when the peer goes.
							want[len(want)-1] = "-a -b"
						}
						checkNotifications(t, xpub, observer, s1, s2, want)
					})
			}
		}
	}
}

// checkNotifications does the steps. Behind each one, whoever did it subscribes a topic of its own,
// which comes last.
func checkNotifications(t *testing.T, xpub, observer, s1, s2 end, want []string) {
	t.Helper()
	marks := 0
	// step returns what the XPUB told until now; the peers in by have taken part.
	step := func(do func(), by ...end) string {
		t.Helper()
		do()
		var told []string
		for _, s := range by {
			mark := fmt.Sprintf("mark%d", marks)
			marks++
			s.subscribe(mark)
			for {
				n := xpub.recv()[0]
				if n == "\x01"+mark {
					break
				}
				if !strings.Contains(n, "mark") {
					told = append(told, strings.NewReplacer("\x01", "+", "\x00", "-").Replace(n))
				}
			}
		}
		return strings.Join(told, " ")
	}
	// closed returns what the XPUB told of a peer that closed: nothing says when that is over, so
	// the cancellation of a topic which is the peer's alone is waited for, and comes in any order
	// with the others.
	closed := func(s end) string {
		t.Helper()
		s.subscribe("last")
		for xpub.recv()[0] != "\x01last" { // the marks of a peer that has closed may still come
		}
		s.close()
		var told []string
		for last := false; !last; {
			n := xpub.recv()[0]
			last = n == "\x00last"
			if !last && !strings.Contains(n, "mark") {
				told = append(told, strings.NewReplacer("\x01", "+", "\x00", "-").Replace(n))
			}
		}
		if rest := step(func() {}, observer); rest != "" {
			told = append(told, rest)
		}
		slices.Sort(told)
		return strings.Join(told, " ")
	}
	got := []string{
		step(func() { s1.subscribe("a") }, s1),
		step(func() { s1.subscribe("a") }, s1),
		step(func() { s2.subscribe("a") }, s2),
		// the first of two, which stays with the subscriber
		step(func() { s1.unsubscribe("a") }, s1),
		step(func() { s1.unsubscribe("a") }, s1),
		step(func() { s2.unsubscribe("a") }, s2),
		strings.TrimSpace(step(func() { s1.subscribe("b") }, s1) + " " +
			step(func() { s2.subscribe("b") }, s2)),
		closed(s2),
		closed(s1),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// topicSizes are around the sizes at which the frame of a SUBSCRIBE changes its form.
var topicSizes = []int{0, 1, 244, 245, 246, 247, 248, 249, 254, 255, 256, 65535}

// TestTopicSizes subscribes topics of all sizes, gets what is published under them, and cancels
// them. The SUBSCRIBE of libzmq 4.3.4 has no correct size for topics of 246 to 255 bytes; as
// messages, which its XSUB sends, all are correct.
func TestTopicSizes(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	for _, role := range roles(p) {
		for _, kind := range []string{"SUB", "XSUB"} {
			t.Run(fmt.Sprintf("%s of %v", kind, role[0]), func(t *testing.T) {
				sub, xpub := role[0].open(t, kind, options{}), role[1].open(t, "XPUB", options{})
				sub.connect(xpub.listen("tcp://127.0.0.1:*"))
				broken := role[0] == side(libzmq{p}) && kind == "SUB"
				connected := false
				for _, n := range topicSizes {
					if broken && n >= 246 && n <= 255 {
						continue
					}
					topic := testkit.Pattern(n)
					sub.subscribe(topic)
					checkMessage(t, xpub.recv(), []string{"\x01" + topic})
					xpub.send(topic, "body")
					checkMessage(t, sub.recv(), []string{topic, "body"})
					sub.unsubscribe(topic)
					checkMessage(t, xpub.recv(), []string{"\x00" + topic})
					connected = true
				}
				if !connected {
					t.Error("no topic was tried")
				}
			})
		}
	}
}

// TestRawSubscriptions has our XSUB send subscriptions as messages, and all at once to a publisher
// that comes later.
func TestRawSubscriptions(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	xsub := open(t, "XSUB", options{})
	endpoint := xsub.listen("tcp://127.0.0.1:*")
	first := libzmq{p}.open(t, "XPUB", options{verboser: true})
	first.connect(endpoint)
	want := []string{"\x01" + testkit.Pattern(3)}
	xsub.send("\x01" + testkit.Pattern(3))
	checkMessage(t, first.recv(), want)
	for _, n := range topicSizes {
		xsub.send("\x01" + testkit.Pattern(n))
		checkMessage(t, first.recv(), []string{"\x01" + testkit.Pattern(n)})
		want = append(want, "\x01"+testkit.Pattern(n))
	}
	// counted: told to those who are there, and once to those who come
	xsub.send("\x01" + testkit.Pattern(3))
	checkMessage(t, first.recv(), []string{"\x01" + testkit.Pattern(3)})
	xsub.send("\x00" + testkit.Pattern(3)) // one of two
	xsub.send("\x00unknown")
	xsub.send("\x01end")
	checkMessage(t, first.recv(), []string{"\x01end"})
	want = append(want, "\x01end")

	second := libzmq{p}.open(t, "XPUB", options{})
	second.connect(endpoint)
	var got []string
	for range want {
		got = append(got, second.recv()...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the second publisher was told\n%.40q, want\n%.40q", got, want)
	}
}

// TestWelcome is libzmq's xpub_welcome_msg.
func TestWelcome(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, kind := range []string{"SUB", "XSUB"} {
			t.Run(fmt.Sprintf("XPUB of %v/%s", role[0], kind), func(t *testing.T) {
				xpub, sub := role[0].open(t, "XPUB", options{welcome: "W"}),
					role[1].open(t, kind, options{})
				sub.subscribe("W")
				link(xpub, sub, "tcp://127.0.0.1:*")
				checkMessage(t, xpub.recv(), []string{"\x01W"})
				checkMessage(t, sub.recv(), []string{"W"})
				xpub.send("World")
				checkMessage(t, sub.recv(), []string{"World"})
			})
		}
	}
}

// TestDropBeyondHWM is libzmq's hwm_pubsub: a PUB drops for a subscriber that does not receive, and
// goes on when it does.
func TestDropBeyondHWM(t *testing.T) {
	t.Parallel()
	const n, size, hwm = 20000, 1000, 100
	for _, role := range roles(startPeer(t)) {
		for _, kind := range []string{"PUB", "XPUB"} {
			t.Run(fmt.Sprintf("%s of %v", kind, role[0]), func(t *testing.T) {
				pub := role[0].open(t, kind, options{sendHWM: hwm, sendBuf: 8192})
				sub := role[1].open(t, "SUB", options{recvHWM: hwm, recvBuf: 8192})
				sub.subscribe("")
				link(pub, sub, "tcp://127.0.0.1:*")
				settle(t, pub, sub)
				if sent := pub.pump("a", "pub", n, size); sent != n {
					t.Fatalf("sent %d of %d: it must drop, not wait", sent, n)
				}
				var got tally
				if o, ok := pub.(*ourEnd); ok {
					got = gather(t, func() int { return n - int(o.Stats().Dropped[zmtp.DropFull]) },
						sub)
				} else { // how much libzmq has dropped, it does not say
					got = sub.tally(n, 3*time.Second)()
				}
				got.increasing(t)
				// libzmq has acknowledged the messages of settle in batches of half the HWM.
				if got.total() < hwm/2 || got.total() == n {
					t.Errorf("%d messages of %d arrived, want some dropped and those below the "+
						"HWM not", got.total(), n)
				}
				if o, ok := pub.(*ourEnd); ok {
					if dropped := int(o.Stats().Dropped[zmtp.DropFull]); got.total()+dropped != n {
						t.Errorf("%d arrived and %d counted as dropped, of %d", got.total(),
							dropped, n)
					}
				}
				settle(t, pub, sub)
				wait := sub.tally(hwm/2, patience)
				pub.burst("a", "again", hwm/2, size)()
				wait().complete(t, hwm/2, "again")
			})
		}
	}
}

// TestNoDrop is libzmq's xpub_nodrop: nothing is lost, the XPUB says when there is no room, and a
// subscriber of something else does not matter.
func TestNoDrop(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("XPUB of %v", role[0]), func(t *testing.T) {
			const hwm, size, most = 50, 10000, 100000
			xpub := role[0].open(t, "XPUB", options{nodrop: true, sendHWM: hwm, sendBuf: 8192})
			sub := role[1].open(t, "SUB", options{recvHWM: hwm, recvBuf: 8192})
			other := role[1].open(t, "SUB", options{})
			endpoint := xpub.listen("tcp://127.0.0.1:*")
			for s, topic := range map[end]string{sub: "a", other: "b"} {
				s.connect(endpoint)
				s.subscribe(topic)
				checkMessage(t, xpub.recv(), []string{"\x01" + topic})
			}
			sent := xpub.pump("a", "first", most, size)
			if sent == most || sent < hwm {
				t.Errorf("%d messages were taken until there was no room, with HWMs of %d", sent,
					hwm)
			}
			xpub.send("b", "not held up")
			checkMessage(t, other.recv(), []string{"b", "not held up"})
			sub.tally(sent, patience)().complete(t, sent, "first")

			// Again, with the subscriber receiving.
			const n = 6000
			wait := sub.tally(n, patience)
			xpub.burst("a", "second", n, 100)()
			wait().complete(t, n, "second")
		})
	}
}

// TestManySubscriptions has more topics than the high-water mark: ours are all told, at once and
// again after a reconnection. libzmq's SUB loses those above its mark, and counts those before a
// reconnection.
func TestManySubscriptions(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	count := map[side]int{ours{}: 3000, libzmq{p}: 999}
	rounds := map[side]int{ours{}: 3, libzmq{p}: 1}
	for _, role := range roles(p) {
		t.Run(fmt.Sprintf("SUB of %v", role[0]), func(t *testing.T) {
			n := count[role[0]]
			sub, xpub := role[0].open(t, "SUB", options{}), role[1].open(t, "XPUB", options{})
			endpoint := xpub.listen(reserve(t))
			for i := range n {
				sub.subscribe(fmt.Sprintf("topic%d.", i))
			}
			sub.connect(endpoint)
			for range rounds[role[0]] {
				told := make(map[string]bool)
				for range n {
					told[xpub.recv()[0]] = true
				}
				if len(told) != n || !told["\x01topic0."] ||
					!told[fmt.Sprintf("\x01topic%d.", n-1)] {
					t.Fatalf("%d different topics were told of %d", len(told), n)
				}
				xpub.close()
				xpub = role[1].open(t, "XPUB", options{})
				listenAgain(t, xpub, endpoint)
			}
		})
	}
}

// TestManual is libzmq's xpub_manual: nothing but what the application grants has an effect.
func TestManual(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	xpub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Manual: true})
	t.Cleanup(func() { xpub.Close() })
	o := &ourEnd{t: t, Socket: xpub.Socket, out: xpub.Send, tryOut: xpub.TrySend, in: xpub}
	endpoint := o.listen("tcp://127.0.0.1:*")
	// request returns the peer that has sent what it wants.
	request := func(want string) *zmtp.Peer {
		t.Helper()
		m, ok := o.message(patience)
		if !ok {
			t.Fatalf("no request %q", want)
		}
		checkMessage(t, parts(m), []string{want})
		return m.Peer()
	}
	a, b := libzmq{p}.open(t, "XSUB", options{}), libzmq{p}.open(t, "XSUB", options{})
	a.connect(endpoint)
	a.subscribe("wanted")
	xpub.Grant(request("\x01wanted"), []byte("given"))
	b.connect(endpoint)
	b.subscribe("wanted")
	request("\x01wanted") // and refused
	b.send("\x02user message")
	fromB := request("\x02user message")
	o.send("wanted", "nobody's")
	o.send("given", "1")
	checkMessage(t, a.recv(), []string{"given", "1"})
	xpub.Grant(fromB, []byte("given"))
	o.send("given", "2")
	checkMessage(t, a.recv(), []string{"given", "2"})
	checkMessage(t, b.recv(), []string{"given", "2"})
	a.unsubscribe("wanted")
	xpub.Revoke(request("\x00wanted"), []byte("given"))
	o.send("given", "3")
	checkMessage(t, b.recv(), []string{"given", "3"})
	b.close()
	request("\x00wanted") // what it had asked for, not what it was given
	if m, ok := a.tryRecv(moment); ok {
		t.Errorf("got %q after Revoke", m)
	}
}
