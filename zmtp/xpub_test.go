package zmtp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// subscriber connects a raw SUB.
func rawSub(t *testing.T, n *zmtptest.Network, other wire.SocketType) *zmtptest.Raw {
	t.Helper()
	r := dialRaw(t, n, addr)
	shake(r, wire.SUB, other)
	synctest.Wait()
	return r
}

// TestNotifications is the table of what an XPUB passes to the application. A cancellation that
// matches no subscription is not passed on.
func TestNotifications(t *testing.T) {
	type want struct{ plain, verbose, verboser string }
	const no = ""
	for _, row := range []struct {
		event string
		// before and do are steps: a peer, then + or - for a subscription or its cancellation, or x
		// for its end
		before, do string
		want       want
	}{
		{"first peer subscribes", "", "1+", want{"+", "+", "+"}},
		{"another peer subscribes", "1+", "2+", want{no, "+", "+"}},
		{"same peer subscribes again", "1+", "1+", want{no, "+", "+"}},
		{"cancel, others remain", "1+ 2+", "1-", want{no, no, "-"}},
		{"cancel, last peer", "1+", "1-", want{"-", "-", "-"}},
		{"cancel of what is not held", "1+", "2-", want{no, no, no}},
		{"cancel without any subscription", "", "1-", want{no, no, no}},
		{"cancel again, subscribed twice", "1+ 1+ 1-", "1-", want{no, "-", "-"}},
		{"cancel again, subscribed once", "1+ 1-", "1-", want{no, no, no}},
		{"peer closes, topic becomes empty", "1+", "1x", want{"-", "-", "-"}},
		{"peer closes, others remain", "1+ 2+", "1x", want{no, no, "-"}},
		{"peer closes, subscribed twice", "1+ 1+", "1x", want{"-", "-", "--"}},
		{"peer closes, subscribed twice and cancelled", "1+ 1+ 1-", "1x", want{no, no, "-"}},
		{"peer closes without any subscription", "2+", "1x", want{no, no, no}},
	} {
		for name, c := range map[string]struct {
			opt  XPubOptions
			want string
		}{
			"default":  {XPubOptions{}, row.want.plain},
			"verbose":  {XPubOptions{Verbose: true}, row.want.verbose},
			"verboser": {XPubOptions{Verboser: true}, row.want.verboser},
		} {
			for _, form := range []string{"command", "message"} {
				t.Run(row.event+"/"+name+"/"+form, func(t *testing.T) {
					bubble(t, func(t *testing.T, n *zmtptest.Network) {
						xpub := NewXPub(Config{}, c.opt)
						defer closeNow(t, xpub)
						bind(t, n, xpub.Socket, addr)
						peers := []*zmtptest.Raw{rawSub(t, n, wire.XPUB), rawSub(t, n, wire.XPUB)}
						do := func(steps string) {
							for _, step := range strings.Fields(steps) {
								r := peers[step[0]-'1']
								switch step[1] {
								case '+', '-':
									r.Send(wire.AppendSubscription(nil, form == "message",
										step[1] == '+', []byte("topic")))
								case 'x':
									r.Conn.Close()
								}
								synctest.Wait()
							}
						}
						do(row.before)
						received(t, xpub)
						do(row.do)
						got := ""
						for _, m := range received(t, xpub) {
							switch m {
							case "\x01topic":
								got += "+"
							case "\x00topic":
								got += "-"
							default:
								t.Errorf("received %q", m)
							}
						}
						if got != c.want {
							t.Errorf("notified %q, want %q", got, c.want)
						}
					})
				})
			}
		}
	}
}

// collect reads frames until no more arrive, and returns their bodies.
func collect(t *testing.T, r *zmtptest.Raw) []string {
	t.Helper()
	var all []string
	for {
		synctest.Wait()
		if r.Conn.(*zmtptest.Conn).Buffered() == 0 {
			return all
		}
		_, body := r.ReadFrame()
		all = append(all, string(body))
	}
}

// With Manual the application only learns of a request; a peer gets what the application grants.
func TestManual(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xpub := NewXPub(Config{}, XPubOptions{Manual: true})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		r := rawSub(t, n, wire.XPUB)
		r.Send(subscribe("a"))
		m, err := xpub.Recv(t.Context())
		if err != nil || text(m) != "\x01a" || m.Peer() == nil {
			t.Fatal(text(m), err)
		}
		send := func() []string {
			for _, topic := range []string{"a1", "b1"} {
				if err := xpub.Send(t.Context(), NewMessageString(topic)); err != nil {
					t.Fatal(err)
				}
			}
			return collect(t, r)
		}
		if got := send(); got != nil {
			t.Errorf("%q before anything was granted", got)
		}
		xpub.Grant(m.Peer(), []byte("b"))
		if got := send(); !slices.Equal(got, []string{"b1"}) {
			t.Errorf("%q, b was granted", got)
		}
		xpub.Grant(m.Peer(), []byte("a"))
		xpub.Revoke(m.Peer(), []byte("b"))
		if got := send(); !slices.Equal(got, []string{"a1"}) || xpub.Topics() != 1 {
			t.Errorf("%q, a was granted", got)
		}
		r.Send(subscribe("a")) // told although it changes nothing
		r.Send(cancel("a"))
		synctest.Wait()
		if got := received(t, xpub); !slices.Equal(got, []string{"\x01a", "\x00a"}) {
			t.Errorf("told %q", got)
		}
		if got := send(); !slices.Equal(got, []string{"a1"}) {
			t.Errorf("%q, a request has no effect by itself", got)
		}
		r.Conn.Close()
		synctest.Wait()
		if got := received(t, xpub); !slices.Equal(got, []string{"\x00a"}) {
			t.Errorf("told %q, want what was requested and not cancelled", got)
		}
		xpub.Grant(m.Peer(), []byte("late"))
		if xpub.Topics() != 0 {
			t.Error("a peer that is gone was granted something")
		}
	})
}

func TestWelcome(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xpub := NewXPub(Config{}, XPubOptions{Welcome: NewMessageString("W", "hello")})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		r := rawSub(t, n, wire.XPUB)
		if got := collect(t, r); !slices.Equal(got, []string{"W", "hello"}) {
			t.Errorf("a subscriber without subscriptions gets %q", got)
		}
		for topic, want := range map[string]int{"W": 1, "": 1, "x": 0} {
			sub := NewSub(inMemory(n, Config{}))
			sub.Subscribe(topic)
			sub.Connect("tcp://" + addr)
			synctest.Wait()
			if got := received(t, sub); len(got) != want {
				t.Errorf("a Sub of %q gets %q", topic, got)
			}
			closeNow(t, sub)
		}
	})
}

// fillUp publishes until the subscriber of topic has no room, and returns how many messages it was.
func fillUp(t *testing.T, xpub *XPub, topic string) int {
	t.Helper()
	for i := range 10_000 {
		err := xpub.TrySend(NewMessage([]byte(topic), make([]byte, 1000)))
		if err == ErrWouldBlock {
			return i
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}
	t.Fatal("never full")
	return 0
}

// With NoDrop a message reaches all subscribers that match, or none. Those that do not match do not
// count.
func TestNoDrop(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 2000
		xpub := NewXPub(Config{SendHWM: 10}, XPubOptions{NoDrop: true})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		slow, other := rawSub(t, n, wire.XPUB), rawSub(t, n, wire.XPUB)
		slow.Send(subscribe("s"))
		other.Send(append(subscribe(""), subscribe("s")...))
		synctest.Wait()
		received(t, xpub)
		sent := 0
		for {
			err := xpub.TrySend(NewMessage([]byte("s"), make([]byte, 1000)))
			if err == ErrWouldBlock {
				break
			}
			sent++
			if got := collect(t, other); len(got) != 2 {
				t.Fatalf("message %d came in %d parts", sent, len(got))
			}
		}
		if sent < 10 || sent > 14 {
			t.Errorf("%d messages before it blocks", sent)
		}
		if got := collect(t, other); got != nil {
			t.Errorf("%d parts of a message that not all can take", len(got))
		}
		if err := xpub.TrySend(NewMessageString("other topic")); err != nil {
			t.Errorf("a peer that does not match holds up: %v", err)
		}
		if st := xpub.Stats(); st.Dropped.Total() != 0 {
			t.Errorf("dropped %v", st.Dropped)
		}
		// Send goes on when the slow subscriber has read half.
		done := false
		go func() { xpub.Send(t.Context(), NewMessageString("s", "waited")); done = true }()
		synctest.Wait()
		for read := 0; !done; read++ {
			slow.ReadFrame()
			slow.ReadFrame()
			synctest.Wait()
			if read > sent {
				t.Fatal("not woken although all was read")
			}
		}
	})
}

// A waiting Send goes on when the subscriber without room cancels its subscription, loses it, or
// disconnects.
func TestNoDropIsWoken(t *testing.T) {
	for name, c := range map[string]struct {
		manual bool
		do     func(*XPub, *Peer, *zmtptest.Raw)
	}{
		"by CANCEL":  {false, func(_ *XPub, _ *Peer, r *zmtptest.Raw) { r.Send(cancel("s")) }},
		"by its end": {false, func(_ *XPub, _ *Peer, r *zmtptest.Raw) { r.Conn.Close() }},
		"by Close": {false, func(_ *XPub, p *Peer,
			_ *zmtptest.Raw) {
			p.Close(errors.New("enough"))
		}},
		"by Revoke": {true, func(x *XPub, p *Peer, _ *zmtptest.Raw) { x.Revoke(p, []byte("s")) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				n.Buffer = 2000
				xpub := NewXPub(Config{SendHWM: 10}, XPubOptions{NoDrop: true, Manual: c.manual})
				defer closeNow(t, xpub)
				bind(t, n, xpub.Socket, addr)
				r := rawSub(t, n, wire.XPUB)
				r.Send(subscribe("s"))
				m, err := xpub.Recv(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if c.manual {
					xpub.Grant(m.Peer(), []byte("s"))
				}
				fillUp(t, xpub, "s")
				done := make(chan error, 1)
				go func() { done <- xpub.Send(t.Context(), NewMessageString("s")) }()
				synctest.Wait()
				if len(done) != 0 {
					t.Fatal("does not wait")
				}
				c.do(xpub, m.Peer(), r)
				synctest.Wait()
				if len(done) == 0 {
					t.Fatal("waits for nobody")
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestSendEndsWithContextOrSocket(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 2000
		xpub := NewXPub(Config{SendHWM: 10}, XPubOptions{NoDrop: true})
		bind(t, n, xpub.Socket, addr)
		r := rawSub(t, n, wire.XPUB)
		r.Send(subscribe("s"))
		synctest.Wait()
		fillUp(t, xpub, "s")
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := xpub.Send(ctx, NewMessageString("s")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		time.AfterFunc(time.Second, func() { closeNow(t, xpub) })
		if err := xpub.Send(t.Context(), NewMessageString("s")); err != ErrClosed {
			t.Errorf("error %v", err)
		}
	})
}

// Without NoDrop the others receive what the slow one does not, and each drop is counted for its
// peer.
func TestPublisherDropsForTheSlow(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 4000
		pub := NewPub(Config{SendHWM: 5})
		defer closeNow(t, pub)
		bind(t, n, pub.Socket, addr)
		slow, fast := rawSub(t, n, wire.PUB), rawSub(t, n, wire.PUB)
		slow.Send(subscribe(""))
		fast.Send(subscribe(""))
		synctest.Wait()
		for i := range 100 {
			if err := pub.TrySend(NewMessage(fmt.Appendf(nil, "%d", i),
				make([]byte, 1000))); err != nil {
				t.Fatal(err)
			}
			if got := collect(t, fast); len(got) != 2 || got[0] != fmt.Sprint(i) {
				t.Fatalf("message %d: %.20q", i, got)
			}
		}
		st := pub.Stats()
		if d := st.Dropped[DropFull]; d < 85 || d > 95 {
			t.Errorf("dropped %v", st.Dropped)
		}
		var each []uint64
		for _, p := range pub.Peers() {
			each = append(each, p.Dropped.Total())
		}
		slices.Sort(each)
		if each[0] != 0 || each[1] != st.Dropped[DropFull] {
			t.Errorf("dropped for each %v, in all %v", each, st.Dropped)
		}
		// The messages that the slow subscriber received are whole and in order.
		got := collect(t, slow)
		for i := 0; i < len(got); i += 2 {
			if got[i] != fmt.Sprint(i/2) || len(got[i+1]) != 1000 {
				t.Fatalf("message %d: %.20q", i/2, got[i:i+2])
			}
		}
	})
}

// The subscriptions of one peer are bounded, in either form.
func TestSubscriptionLimits(t *testing.T) {
	many := func(on func(i int) []byte) []byte {
		var b []byte
		for i := range 11 {
			b = append(b, on(i)...)
		}
		return b
	}
	message := func(topic string) []byte {
		return wire.AppendSubscription(nil, true, true,
			[]byte(topic))
	}
	for name, c := range map[string]struct {
		opt    XPubOptions
		in     []byte
		reason Reason
	}{
		"11 topics": {XPubOptions{},
			many(func(i int) []byte { return subscribe(fmt.Sprint(i)) }),
			wire.TooManySubscriptions},
		"11 topics, messages": {XPubOptions{},
			many(func(i int) []byte { return message(fmt.Sprint(i)) }), wire.TooManySubscriptions},
		"one topic 11 times": {XPubOptions{}, many(func(int) []byte { return subscribe("t") }),
			wire.ReasonNone},
		"and each is told": {XPubOptions{Verboser: true},
			many(func(int) []byte { return subscribe("t") }), wire.TooManySubscriptions},
		"taken back each time": {XPubOptions{Verboser: true},
			many(func(int) []byte { return append(subscribe("t"), cancel("t")...) }),
			wire.ReasonNone},
		"topic at the limit": {XPubOptions{}, subscribe(strings.Repeat("t", 100)),
			wire.ReasonNone},
		"topic above": {XPubOptions{}, subscribe(strings.Repeat("t", 101)),
			wire.TopicTooLong},
		"topic above, message": {XPubOptions{}, message(strings.Repeat("t", 101)),
			wire.TopicTooLong},
		"CANCEL above": {XPubOptions{}, cancel(strings.Repeat("t", 101)), wire.ReasonNone},
		"beyond any command": {XPubOptions{},
			wire.AppendHeader(nil, wire.Command, wire.MaxCommandSize+1), wire.CommandTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				xpub := NewXPub(Config{MaxTopicSize: 100, MaxSubscriptions: 10}, c.opt)
				defer closeNow(t, xpub)
				bind(t, n, xpub.Socket, addr)
				honest := rawSub(t, n, wire.XPUB)
				r := rawSub(t, n, wire.XPUB)
				r.Send(c.in)
				synctest.Wait()
				st := xpub.Stats()
				if c.reason == wire.ReasonNone {
					if st.Peers != 2 {
						t.Errorf("closed %v", st.Closed)
					}
					alive(r)
				} else if st.Closed[c.reason] != 1 || xpub.Topics() != 0 {
					t.Errorf("closed %v, %d topics are left", st.Closed, xpub.Topics())
				}
				alive(honest)
			})
		})
	}
}

// A publisher that does not read its subscriptions costs no more than SendBytes.
func TestSubscriptionBacklog(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 1000
		l := listenRaw(t, n, addr)
		xsub := NewXSub(inMemory(n, Config{SendBytes: 10_000}))
		defer closeNow(t, xsub)
		xsub.Connect("tcp://" + addr)
		r := acceptRaw(t, l)
		r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.XPUB)...))
		r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.XSUB)...))
		topic := strings.Repeat("t", 100)
		for i := 0; xsub.Stats().Peers == 1 || i == 0; i++ {
			if err := xsub.Subscribe(fmt.Sprint(topic, i)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if i > 200 {
				t.Fatal("no limit")
			}
			if st := xsub.Stats(); i < 80 && st.Peers != 1 {
				t.Fatalf("closed after %d: %v", i, st.Closed)
			}
		}
		if st := xsub.Stats(); st.Closed[wire.SubscriptionBacklog] != 1 {
			t.Errorf("closed %v", st.Closed)
		}
	})
}
