package zmtp

import (
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// With InvertMatching a message goes to those who have not subscribed it, and a SUB receives what
// it has not subscribed (libzmq, test_pub_invert_matching).
func TestInvertMatching(t *testing.T) {
	for _, typ := range []wire.SocketType{wire.PUB, wire.XPUB} {
		t.Run(string(typ), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				s := newVectorSocket(typ, Config{InvertMatching: true}, false)
				defer closeNow(t, s.Socket)
				bind(t, n, s.Socket, addr)
				a, none := rawSub(t, n, typ), rawSub(t, n, typ)
				sub := NewSub(inMemory(n, Config{InvertMatching: true}))
				defer closeNow(t, sub)
				if err := sub.Subscribe("b"); err != nil {
					t.Fatal(err)
				}
				sub.Connect("tcp://" + addr)
				a.Send(subscribe("a"))
				synctest.Wait()
				for _, topic := range []string{"a1", "b1"} {
					if err := s.sendTo(NewMessageString(topic)); err != nil {
						t.Fatal(err)
					}
				}
				if got := collect(t, a); !slices.Equal(got, []string{"b1"}) {
					t.Errorf("a subscriber of a got %q", got)
				}
				if got := collect(t, none); !slices.Equal(got, []string{"a1", "b1"}) {
					t.Errorf("a peer without subscriptions got %q", got)
				}
				if got := received(t, sub); !slices.Equal(got, []string{"a1"}) {
					t.Errorf("a SUB of b received %q", got)
				}
				// What comes although it was subscribed is dropped.
				sub.Subscribe("a")
				s.sendTo(NewMessageString("a2"))
				synctest.Wait()
				none.Conn.Close()
				synctest.Wait()
				s.sendTo(NewMessageString("c"))
				synctest.Wait()
				if got := received(t, sub); !slices.Equal(got, []string{"c"}) {
					t.Errorf("a SUB of a and b received %q", got)
				}
			})
		})
	}
}

// With OnlyFirstSubscribe a message whose first part is no subscription is the application's as a
// whole (libzmq, xpub.cpp); with a subscription first, each part is looked at.
func TestOnlyFirstSubscribe(t *testing.T) {
	for _, only := range []bool{true, false} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			xpub := NewXPub(Config{}, XPubOptions{OnlyFirstSubscribe: only})
			defer closeNow(t, xpub)
			bind(t, n, xpub.Socket, addr)
			r := rawSub(t, n, wire.XPUB)
			r.Send(NewMessageString("user", "\x01a").Wire())
			r.Send(NewMessageString("\x01b", "\x01c").Wire())
			r.Send(NewMessageString("\x01d").Wire())
			synctest.Wait()
			want := []string{"user,\x01a", "\x01b", "\x01c", "\x01d"}
			topics := 3
			if !only {
				topics = 4
			}
			if got := received(t, xpub); !slices.Equal(got, want) || xpub.Topics() != topics {
				t.Errorf("only first=%v: received %q, %d topics", only, got, xpub.Topics())
			}
		})
	}
}

// With VerboseUnsubscribe each cancellation goes to the publishers; without it only the last one of
// a topic does (libzmq, test_xsub_verbose).
func TestVerboseUnsubscribe(t *testing.T) {
	for verbose, want := range map[bool][]string{
		false: {"\x01a", "\x01a", "\x00a", "\x02end"},
		true:  {"\x01a", "\x01a", "\x00a", "\x00a", "\x00b", "\x02end"},
	} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			xsub := NewXSub(Config{}, XSubOptions{VerboseUnsubscribe: verbose})
			defer closeNow(t, xsub)
			bind(t, n, xsub.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.XPUB, wire.XSUB)
			synctest.Wait()
			for _, m := range []string{"\x01a", "\x01a", "\x00a", "\x00a", "\x00b", "\x02end"} {
				if err := xsub.Send(t.Context(), NewMessageString(m)); err != nil {
					t.Fatal(err)
				}
			}
			if got := collect(t, r); !slices.Equal(got, want) {
				t.Errorf("verbose=%v: sent %q, want %q", verbose, got, want)
			}
		})
	}
}

// A last-value cache: the newcomer alone gets the value, before anything newer (libzmq,
// test_xpub_manual_last_value).
func TestLastValueCache(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xpub := NewXPub(Config{}, XPubOptions{Manual: true})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		var peers []*zmtptest.Raw
		for range 2 {
			r := rawSub(t, n, wire.XPUB)
			peers = append(peers, r)
			r.Send(subscribe("a"))
			m, err := xpub.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			xpub.Grant(m.Peer(), []byte("a"))
			if !m.Peer().OfferMessage(NewMessageString("a last")) {
				t.Fatal("no room for the last value")
			}
		}
		if err := xpub.Send(t.Context(), NewMessageString("a new")); err != nil {
			t.Fatal(err)
		}
		for i, r := range peers {
			if got := collect(t, r); !slices.Equal(got, []string{"a last", "a new"}) {
				t.Errorf("subscriber %d got %q", i, got)
			}
		}
	})
}

// The number of topics is that of distinct prefixes, at both ends (libzmq,
// test_pubsub_topics_count).
func TestTopicsCount(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pub, sub := NewPub(Config{}), NewSub(inMemory(n, Config{}))
		xsub := NewXSub(inMemory(n, Config{}))
		defer closeNow(t, pub)
		defer closeNow(t, sub)
		defer closeNow(t, xsub)
		bind(t, n, pub.Socket, addr)
		sub.Connect("tcp://" + addr)
		xsub.Connect("tcp://" + addr)
		for _, step := range []struct {
			do                   string
			atSub, atXSub, atPub int
		}{
			{"+topic1", 1, 0, 1}, {"+topic1", 1, 0, 1}, {"+topic1.sub", 2, 0, 2}, {"+", 3, 0, 3},
			{"-topic1", 3, 0, 3}, {"-topic1", 2, 0, 2}, {"-none", 2, 0, 2}, {"x+", 2, 1, 2},
			{"x+other", 2, 2, 3}, {"-", 1, 2, 3}, {"-topic1.sub", 0, 2, 2}, {"x-", 0, 1, 1},
		} {
			s, what := sub.subscriber.change, step.do
			if what[0] == 'x' {
				s, what = xsub.subscriber.change, what[1:]
			}
			if err := s([]byte(what[1:]), what[0] == '+', false); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if sub.Topics() != step.atSub || xsub.Topics() != step.atXSub ||
				pub.Topics() != step.atPub {
				t.Errorf("behind %q: %d, %d, %d topics, want %d, %d, %d", step.do, sub.Topics(),
					xsub.Topics(), pub.Topics(), step.atSub, step.atXSub, step.atPub)
			}
		}
	})
}
