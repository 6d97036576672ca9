package zmtp

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// subscribed makes a Sub that has subscribed topics at a publisher at addr, in n.
func subscribed(t *testing.T, n *zmtptest.Network, cfg Config, all ...string) *Sub {
	t.Helper()
	sub := NewSub(inMemory(n, cfg))
	t.Cleanup(func() { sub.Close() })
	for _, topic := range all {
		if err := sub.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	if err := sub.Connect("tcp://" + addr); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return sub
}

// A publisher sends each subscriber the messages of a batch that match its subscriptions, in order,
// and counts the messages without room.
func TestPublishBatch(t *testing.T) {
	for _, typ := range []SocketType{PUB, XPUB} {
		t.Run(string(typ), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				var s interface {
					TrySendBatch(*Batch) (int, error)
					Stats() Stats
				}
				if typ == PUB {
					pub := NewPub(Config{SendHWM: 4})
					defer closeNow(t, pub)
					bind(t, n, pub.Socket, addr)
					s = pub
				} else {
					xpub := NewXPub(Config{SendHWM: 4}, XPubOptions{})
					defer closeNow(t, xpub)
					bind(t, n, xpub.Socket, addr)
					s = xpub
				}
				a, ab := subscribed(t, n, Config{}, "a"), subscribed(t, n, Config{}, "a", "b")
				all := []string{"a1", "a1", "b1", "c1", "a2", "b2"}
				if took, err := s.TrySendBatch(batchOfTexts(all)); took != 6 || err != nil {
					t.Fatal(took, err)
				}
				synctest.Wait()
				if got := received(t, a); !slices.Equal(got, []string{"a1", "a1", "a2"}) {
					t.Errorf("the subscriber of a got %q", got)
				}
				// The fifth message for the other has no room, unless the writer was quick.
				got, dropped := received(t, ab), s.Stats().Dropped
				if len(got)+int(dropped[DropFull]) != 5 || !slices.Equal(got, []string{"a1", "a1",
					"b1", "a2", "b2"}[:len(got)]) {
					t.Errorf("the subscriber of a and b got %q, dropped %v", got, dropped)
				}
			})
		})
	}
}

// With NoDrop a batch is accepted up to the first message for which a subscriber has no room.
// SendBatch waits for room, TrySendBatch does not.
func TestPublishBatchWithoutDrops(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 200
		pub := NewXPub(Config{SendHWM: 4}, XPubOptions{NoDrop: true})
		defer closeNow(t, pub)
		bind(t, n, pub.Socket, addr)
		sub := dialRaw(t, n, addr)
		shake(sub, wire.SUB, wire.XPUB)
		sub.Send(subscribe(""))
		synctest.Wait()
		var all []string
		var want []byte
		for i := range 20 {
			m := fmt.Sprintf("%100d", i)
			all, want = append(all, m), append(want, frame(m)...)
		}
		took, err := pub.TrySendBatch(batchOfTexts(all))
		if err != ErrWouldBlock || took < 4 || took > 10 {
			t.Fatal(took, err)
		}
		done := make(chan error, 1)
		go func() {
			n, err := pub.SendBatch(t.Context(), batchOfTexts(all[took:]))
			if err == nil && n != len(all)-took {
				err = fmt.Errorf("%d messages taken", n)
			}
			done <- err
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("a batch was taken that has no room", <-done)
		}
		sub.Expect(want)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := pub.Stats(); st.Dropped != (Drops{}) {
			t.Errorf("dropped %v", st.Dropped)
		}
	})
}

// An XSUB takes the subscriptions out of a batch and sends the rest upstream, in order.
func TestXSubBatch(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		l := listenRaw(t, n, addr)
		xsub := NewXSub(inMemory(n, Config{}))
		defer closeNow(t, xsub)
		xsub.Connect("tcp://" + addr)
		r := acceptRaw(t, l)
		r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.XPUB)...))
		r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.XSUB)...))
		synctest.Wait() // the peer is attached
		all := []string{"m1", "m2", "\x01t", "\x01t", "\x00t", "m3", "\x00t", "\x00t", ""}
		if took, err := xsub.SendBatch(t.Context(), batchOfTexts(all)); took != 9 || err != nil {
			t.Fatal(took, err)
		}
		// Of two equal subscriptions the first cancellation is not passed on, and a third one
		// matches none.
		for _, m := range []string{"m1", "m2", "\x01t", "\x01t", "m3", "\x00t", ""} {
			r.Expect(frame(m))
		}
	})
}

// Text and bytes subscribe to the same topic.
func TestSubscribeBytes(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pub := NewPub(Config{})
		defer closeNow(t, pub)
		bind(t, n, pub.Socket, addr)
		sub := subscribed(t, n, Config{}, "a")
		for _, change := range []func() error{
			func() error { return sub.SubscribeBytes([]byte("a")) },
			func() error { return sub.SubscribeBytes([]byte("b")) },
			func() error { return sub.UnsubscribeBytes([]byte("a")) },
			func() error { return sub.Unsubscribe("b") },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, m := range []string{"a1", "b1"} {
			if err := pub.Send(t.Context(), NewMessageString(m)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := received(t, sub); !slices.Equal(got, []string{"a1"}) {
			t.Errorf("received %q", got)
		}
	})
}

func TestDropsText(t *testing.T) {
	d := Drops{DropFull: 3, DropClosed: 1}
	if got := d.String(); got != "full=3 closed=1" {
		t.Error(got)
	}
	if got := (Drops{}).String(); got != "" {
		t.Errorf("no drops: %q", got)
	}
}
