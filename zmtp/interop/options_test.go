//go:build unix

package interop

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/proxy"
	"zmtpd/zmtp/testkit"
)

// TestInvertMatching is libzmq's test_pub_invert_matching: messages go to those who have not
// subscribed them.
func TestInvertMatching(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		for _, kind := range []string{"PUB", "XPUB"} {
			t.Run(fmt.Sprintf("%s of %v", kind, role[0]), func(t *testing.T) {
				pub := role[0].open(t, kind, options{invert: true})
				endpoint := pub.listen("tcp://127.0.0.1:*")
				a := role[1].open(t, "SUB", options{invert: true})
				b := role[1].open(t, "SUB", options{invert: true})
				for s, topic := range map[end]string{a: "a", b: "b"} {
					s.subscribe(topic)
					s.connect(endpoint)
					testkit.Eventually(t, "that it has told its subscription", func() bool {
						pub.send("c")
						_, ok := s.tryRecv(moment)
						return ok
					})
				}
				pub.send("a1")
				pub.send("b1")
				pub.send("end")
				for s, want := range map[end]string{a: "b1", b: "a1"} {
					var got []string
					for len(got) == 0 || got[len(got)-1] != "end" {
						if m := s.recv(); m[0] != "c" {
							got = append(got, m...)
						}
					}
					checkMessage(t, got, []string{want, "end"})
				}
			})
		}
	}
}

// TestOnlyFirstSubscribe has an XPUB take messages as they are whose first part is no subscription,
// whatever their other parts (libzmq, xpub.cpp).
func TestOnlyFirstSubscribe(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("XPUB of %v", role[0]), func(t *testing.T) {
			xpub := role[0].open(t, "XPUB", options{onlyFirst: true})
			xsub := role[1].open(t, "XSUB", options{onlyFirst: true})
			link(xpub, xsub, "tcp://127.0.0.1:*")
			xsub.subscribe("first")
			checkMessage(t, xpub.recv(), []string{"\x01first"})
			xsub.send("user", "\x01a", "\x00b", "\x01c")
			checkMessage(t, xpub.recv(), []string{"user", "\x01a", "\x00b", "\x01c"})
		})
	}
}

// TestLastValueCache is libzmq's test_xpub_manual_last_value: who subscribes gets the last value,
// and those that are there already do not get it again.
func TestLastValueCache(t *testing.T) {
	t.Parallel()
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("XPUB of %v", role[0]), func(t *testing.T) {
			var xpub end
			var answer func() // takes a request, and sends the last value to its sender
			if p, ok := role[0].(libzmq); ok {
				s := p.socket(t, "XPUB", options{manualLast: true})
				answer = func() {
					topic := s.recv()[0][1:]
					s.call("set", testkit.Args{"option": "SUBSCRIBE", "value": testkit.Blob(topic)})
					s.send(topic, "last")
				}
				xpub = s
			} else {
				s := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Manual: true})
				t.Cleanup(func() { s.Close() })
				o := &ourEnd{t: t, Socket: s.Socket, out: s.Send, tryOut: s.TrySend, in: s}
				answer = func() {
					m, ok := o.message(patience)
					if !ok {
						t.Fatal("no request")
					}
					topic := m.Part(0)[1:]
					s.Grant(m.Peer(), topic)
					m.Peer().OfferMessage(zmtp.NewMessage(topic, []byte("last")))
				}
				xpub = o
			}
			endpoint := xpub.listen("tcp://127.0.0.1:*")
			var subs []end
			for range 3 {
				sub := role[1].open(t, "SUB", options{})
				sub.connect(endpoint)
				sub.subscribe("a")
				answer()
				checkMessage(t, sub.recv(), []string{"a", "last"})
				subs = append(subs, sub)
			}
			xpub.send("a", "new")
			for _, sub := range subs {
				checkMessage(t, sub.recv(), []string{"a", "new"})
			}
		})
	}
}

// theUser is the one whom servers with PLAIN admit.
const theUser, thePassword = "admin", "secret"

// TestPlain is libzmq's test_security_plain: who has the password gets in, and others do not.
func TestPlain(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	p.Call(t, "passwords", testkit.Args{"passwords": map[string]string{theUser: thePassword}})
	for _, role := range roles(p) {
		t.Run(fmt.Sprintf("PULL of %v", role[1]), func(t *testing.T) {
			pull := role[1].open(t, "PULL", options{plainServer: true})
			endpoint := pull.listen("tcp://127.0.0.1:*")
			stranger := role[0].open(t, "PUSH", options{user: theUser, password: "wrong",
				immediate: true})
			stranger.connect(endpoint)
			none := role[0].open(t, "PUSH", options{immediate: true})
			none.connect(endpoint)
			for i := range 3 {
				admin := role[0].open(t, "PUSH", options{user: theUser, password: thePassword})
				admin.connect(endpoint)
				admin.send(fmt.Sprint(i))
				checkMessage(t, pull.recv(), []string{fmt.Sprint(i)})
				if stranger.trySend("x") || none.trySend("x") {
					t.Error("a client without the password can send")
				}
			}
		})
	}
}

// TestProxyHoldsUp is libzmq's test_proxy_hwm: a subscriber that does not receive holds its
// publisher up through a proxy whose XPUB does not drop, and nothing is lost.
func TestProxyHoldsUp(t *testing.T) {
	t.Parallel()
	const hwm, size, most = 20, 10_000, 10_000
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("XPUB of %v", role[0]), func(t *testing.T) {
			small := zmtp.Config{SendHWM: hwm, RecvHWM: hwm, SendBuffer: 8192, RecvBuffer: 8192}
			xsub := zmtp.NewXSub(small)
			defer xsub.Close()
			xpub := zmtp.NewXPub(small, zmtp.XPubOptions{NoDrop: true})
			defer xpub.Close()
			front, err := xsub.Listen("tcp://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			back, err := xpub.Listen("tcp://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			broker, err := proxy.New(xsub, xpub, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- broker.Run(ctx) }()
			pub := role[0].open(t, "XPUB", options{nodrop: true, sendHWM: hwm, sendBuf: 8192})
			sub := role[1].open(t, "SUB", options{recvHWM: hwm, recvBuf: 8192})
			pub.connect(front)
			sub.connect(back)
			sub.subscribe("")
			checkMessage(t, pub.recv(), []string{"\x01"})
			sent := 0
			pump := func() {
				sent += pub.pump("a", fmt.Sprintf("burst%d", sent), most, size)
				if sent > most {
					t.Fatalf("%d messages were taken with HWMs of %d", sent, hwm)
				}
			}
			// The proxy passes on what fits, which makes room.
			testkit.Eventually(t, "all queues are used", func() bool {
				pump()
				return sent >= 2*hwm
			})
			for taken := -1; taken < sent; {
				taken = sent
				time.Sleep(5 * moment)
				pump()
			}
			got := gather(t, func() int { return sent }, sub)
			got.increasing(t)
			if got.total() != sent {
				t.Errorf("%d messages arrived of %d", got.total(), sent)
			}
			stop()
			<-done
		})
	}
}

// TestDefaults compares defaults with libzmq's, in its units.
func TestDefaults(t *testing.T) {
	t.Parallel()
	ms := func(d time.Duration) int { return int(d.Milliseconds()) }
	ours := map[string]int{
		"SNDHWM":            zmtp.DefaultHWM,
		"RCVHWM":            zmtp.DefaultHWM,
		"HANDSHAKE_IVL":     ms(zmtp.DefaultHandshakeTimeout),
		"RECONNECT_IVL":     ms(zmtp.DefaultReconnectInterval),
		"HEARTBEAT_IVL":     ms(zmtp.Config{}.HeartbeatInterval),
		"HEARTBEAT_TTL":     ms(zmtp.Config{}.HeartbeatTTL),
		"CONNECT_TIMEOUT":   ms(zmtp.Config{}.ConnectTimeout),
		"IPV6":              0,
		"IMMEDIATE":         0,
		"TCP_KEEPALIVE":     -1, // that of the system
		"SNDBUF":            -1,
		"RCVBUF":            -1,
		"INVERT_MATCHING":   0,
		"MECHANISM":         0, // NULL
		"RECONNECT_IVL_MAX": 0, // see below
		"MAXMSGSIZE":        -1,
	}
	names := slices.Sorted(maps.Keys(ours))
	got := startPeer(t).Call(t, "defaults", testkit.Args{"type": "DEALER", "options": names}).Values
	for i, name := range names {
		if got[i] != ours[name] {
			t.Errorf("%s is %d in libzmq, here %d", name, got[i], ours[name])
		}
	}
	// These two differ, for the reasons in Config.
	if zmtp.DefaultReconnectMax <= 0 || zmtp.DefaultMaxMessageSize <= 0 {
		t.Error("the back-off or the size of messages is not limited")
	}
}
