package zmtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// routing returns a Router that listens in n.
func routing(t *testing.T, n *zmtptest.Network, cfg Config, opt RouterOptions) *Router {
	t.Helper()
	s := NewRouter(cfg, opt)
	t.Cleanup(func() { closeNow(t, s) })
	bind(t, n, s.Socket, addr)
	return s
}

// A message that a ROUTER receives has the routing id of its peer in front: that which the peer
// gave itself, or five bytes beginning with a zero. What is sent with it goes to that peer (RFC
// 28).
func TestRouterIDs(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := routing(t, n, Config{}, RouterOptions{})
		named, unnamed := rawPeer(t, n, DEALER, ROUTER, "alice"), rawPeer(t, n, REQ, ROUTER, "")
		sendParts(named, "", "hello")
		mustRecv(t, s, "alice,,hello")
		mustSend(t, s, "alice", "", "world")
		expectParts(named, "", "world")
		sendParts(unnamed, "", "q")
		m, err := s.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id, rest := m.CutPart()
		if len(id) != 5 || id[0] != 0 || text(rest) != ",q" {
			t.Errorf("received %q, %q", id, text(rest))
		}
		if err := s.TrySend(rest.Prepend(id)); err != nil {
			t.Fatal(err)
		}
		expectParts(unnamed, "", "q")
	})
}

// RecvBatch gives the same messages as Recv, and SendBatch does what Send does, for small and for
// large messages.
func TestRouterBatches(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := routing(t, n, Config{}, RouterOptions{})
		a, b := rawPeer(t, n, DEALER, ROUTER, "a"), rawPeer(t, n, DEALER, ROUTER, "b")
		large := strings.Repeat("x", 3*referSize)
		for _, body := range []string{"1", large, "3"} {
			sendParts(a, body, "end")
		}
		var all BatchBuilder
		for range 3 {
			batch, err := s.RecvBatch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for m := range batch.Messages() {
				id, rest := m.CutPart()
				if string(id) != "a" {
					t.Fatalf("the routing id is %.10q", id)
				}
				all.AddMessage(rest, []byte("b"))
				all.AddMessage(rest, []byte("a"))
			}
			if parts, _ := batch.Counts(0, batch.Len()); parts != 3*batch.Len() {
				t.Errorf("%d parts in %d messages", parts, batch.Len())
			}
			batch.Release()
			if all.Len() == 6 {
				break
			}
		}
		batch := all.Batch()
		if k, err := s.SendBatch(t.Context(), batch); k != 6 || err != nil {
			t.Fatal(k, err)
		}
		batch.Release()
		for _, r := range []*zmtptest.Raw{a, b} {
			for _, body := range []string{"1", large, "3"} {
				expectParts(r, body, "end")
			}
		}
	})
}

// Without Mandatory, a message for an unknown routing id, or for a peer without room, is dropped
// and counted. With it, the first fails with EHOSTUNREACH, and the second waits (libzmq,
// test_router_mandatory and test_router_mandatory_hwm).
func TestRouterMandatory(t *testing.T) {
	for _, mandatory := range []bool{false, true} {
		t.Run(fmt.Sprint(mandatory), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				n.Buffer = 100
				s := routing(t, n, Config{SendHWM: 2}, RouterOptions{Mandatory: mandatory})
				for _, m := range []Message{{}, message("id alone")} {
					if err := s.TrySend(m); !errors.Is(err, ErrMessage) {
						t.Errorf("%q: %v", text(m), err)
					}
				}
				unknown := s.TrySend(message("unknown", "x"))
				r := rawPeer(t, n, DEALER, ROUTER, "x")
				synctest.Wait()
				long := strings.Repeat("x", 500)
				var full error
				for range 2 {
					mustSend(t, s, "x", long)
				}
				full = s.TrySend(message("x", long))
				readable, writable, err := s.PeerState([]byte("x"))
				if readable || writable || err != nil {
					t.Errorf("state of a peer without room: %v, %v, %v", readable, writable, err)
				}
				if _, _, err := s.PeerState([]byte("y")); err != ErrNoPeer {
					t.Errorf("state of an unknown peer: %v", err)
				}
				if !mandatory {
					want := Drops{DropNoPeer: 1, DropFull: 1}
					if got := s.Stats().Dropped; unknown != nil || full != nil || got != want {
						t.Errorf("%v, %v, dropped %v", unknown, full, got)
					}
					return
				}
				if !errors.Is(unknown, syscall.EHOSTUNREACH) || full != ErrWouldBlock {
					t.Errorf("unknown: %v, full: %v", unknown, full)
				}
				sent := make(chan error, 1)
				go func() { sent <- s.Send(t.Context(), message("x", "last")) }()
				synctest.Wait()
				for range 2 {
					expectParts(r, long)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				expectParts(r, "last")
				synctest.Wait() // the queue is empty
				// A sender that waits for room fails when its peer is lost.
				for range 2 {
					mustSend(t, s, "x", long)
				}
				go func() { sent <- s.Send(t.Context(), message("x", "late")) }()
				synctest.Wait()
				r.Conn.Close()
				if err := <-sent; err != ErrNoPeer {
					t.Errorf("the peer is lost: %v", err)
				}
			})
		})
	}
}

// Two peers have the same routing id. The first keeps it, or with Handover the second takes it. The
// other stays connected and is ignored (libzmq, test_router_handover).
func TestRouterHandover(t *testing.T) {
	for _, handover := range []bool{false, true} {
		t.Run(fmt.Sprint(handover), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				s := routing(t, n, Config{}, RouterOptions{Handover: handover, Mandatory: true,
					NotifyConnect: true, NotifyDisconnect: true})
				first := rawPeer(t, n, DEALER, ROUTER, "id")
				alive(first)
				second := rawPeer(t, n, DEALER, ROUTER, "id")
				alive(second)
				holder, other := first, second
				mustRecv(t, s, "id,")
				if handover {
					holder, other = second, first
					mustRecv(t, s, "id,")
				}
				sendParts(other, "ignored")
				alive(other)
				sendParts(holder, "heard")
				mustRecv(t, s, "id,heard")
				mustSend(t, s, "id", "to the holder")
				expectParts(holder, "to the holder")
				other.Conn.Close()
				nothing(t, s)
				mustSend(t, s, "id", "still there")
				expectParts(holder, "still there")
				holder.Conn.Close()
				mustRecv(t, s, "id,")
				if err := s.TrySend(message("id", "x")); err != ErrNoPeer {
					t.Errorf("after both have gone: %v", err)
				}
				// The id is free at once, without a call of the application.
				third := rawPeer(t, n, DEALER, ROUTER, "id")
				sendParts(third, "third")
				mustRecv(t, s, "id,")
				mustRecv(t, s, "id,third")
				if n := s.Stats().Dropped[DropUnexpected]; n != 1 {
					t.Errorf("%d messages dropped, want 1", n)
				}
			})
		})
	}
}

// Notifications come before the first message of a peer and behind its last, only for peers whose
// handshake was complete, and a message of which a part is missing is not delivered (libzmq,
// test_router_notify).
func TestRouterNotify(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := routing(t, n, Config{}, RouterOptions{NotifyConnect: true, NotifyDisconnect: true,
			Disconnect: message("bye"), Hello: message("welcome", "here")})
		r := dialRaw(t, n, addr)
		r.Send(wire.AppendGreeting(nil, "NULL", false))
		r.Conn.Close()
		r = rawPeer(t, n, DEALER, ROUTER, "id")
		expectParts(r, "welcome", "here")
		sendParts(r, "message")
		r.Send(wire.AppendFrame(nil, wire.More, []byte("half")))
		synctest.Wait()
		r.Conn.Close()
		synctest.Wait()
		if got, want := fmt.Sprint(received(t, s)), "[id, id,message id,bye id,]"; got != want {
			t.Errorf("received %s, want %s", got, want)
		}
	})
}

// ConnectAs gives a peer its routing id: messages for it are queued at once, go to the socket that
// listens there, and survive a lost connection (libzmq, test_connect_rid).
func TestRouterConnectAs(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := NewRouter(inMemory(n, Config{}), RouterOptions{Mandatory: true})
		defer closeNow(t, s)
		for id, want := range map[string]string{"": "empty", "\x00x": "not zero",
			strings.Repeat("x", 256): "1 to 255"} {
			if err := s.ConnectAs([]byte(id), "tcp://a:1"); err == nil ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("%.3q: %v", id, err)
			}
		}
		if err := s.ConnectAs([]byte("X"), "tcp://a:1"); err != nil {
			t.Fatal(err)
		}
		if err := s.ConnectAs([]byte("X"), "tcp://b:1"); err == nil {
			t.Error("two peers of one routing id")
		}
		mustSend(t, s, "X", "before anybody listens")
		l := listenRaw(t, n, "a:1")
		for i := range 2 {
			r := acceptRaw(t, l)
			r.Send(append(wire.AppendGreeting(nil, "NULL", false), wire.AppendCommand(nil,
				wire.CmdReady, wire.AppendMetadata(nil, localMetadata(DEALER,
					[]byte("the peer's own"), nil)))...))
			r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(ROUTER)...))
			if i == 0 {
				expectParts(r, "before anybody listens")
			} else {
				expectParts(r, "while it was away")
			}
			sendParts(r, "reply")
			mustRecv(t, s, "X,reply")
			r.Conn.Close()
			synctest.Wait()
			mustSend(t, s, "X", "while it was away")
		}
		if err := s.Disconnect("tcp://a:1"); err != nil {
			t.Fatal(err)
		}
		if err := s.TrySend(message("X", "x")); err != ErrNoPeer {
			t.Errorf("after Disconnect: %v", err)
		}
		if err := s.ConnectAs([]byte("X"), "tcp://b:1"); err != nil {
			t.Errorf("the routing id is not free after Disconnect: %v", err)
		}
	})
}

// A routing id of 256 bytes, or one that begins with a zero, is refused (RFC 37: "a routing id is 1
// to 255 octets and SHALL NOT begin with zero").
func TestRouterBadID(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := routing(t, n, Config{}, RouterOptions{})
		for _, id := range []string{strings.Repeat("x", 256), "\x00abcd"} {
			r := dialRaw(t, n, addr)
			r.Send(append(wire.AppendGreeting(nil, "NULL", false), wire.AppendCommand(nil,
				wire.CmdReady, wire.AppendMetadata(nil,
					localMetadata(DEALER, []byte(id), nil)))...))
			r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(ROUTER)...))
			r.ExpectClose()
		}
		time.Sleep(2 * lastLook) // see lingerClose
		if n := s.Stats().HandshakeFailures[wire.BadIdentity]; n != 2 {
			t.Errorf("%d handshakes failed for that, want 2", n)
		}
	})
}

// DEALERs send and receive in any order, connect and end. Each message to a routing id reaches the
// peer that has it, or no peer, and replies reach the peer that asked.
func TestRouterModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			s := NewRouter(Config{}, RouterOptions{Mandatory: true})
			defer closeNow(t, s)
			bind(t, n, s.Socket, addr)
			dealers := make(map[string]*Dealer)
			got := make(map[string][]string) // what each dealer should receive
			defer func() {
				for _, d := range dealers {
					closeNow(t, d)
				}
			}()
			ids := rapid.SampledFrom([]string{"a", "b", "c"})
			number := 0
			rt.Repeat(map[string]func(*rapid.T){
				"come": func(rt *rapid.T) {
					id := ids.Draw(rt, "id")
					if dealers[id] != nil {
						return
					}
					d := NewDealer(inMemory(n, Config{RoutingID: []byte(id)}), DealerOptions{})
					if err := d.Connect("tcp://" + addr); err != nil {
						t.Fatal(err)
					}
					dealers[id] = d
					synctest.Wait()
				},
				"go": func(rt *rapid.T) {
					id := ids.Draw(rt, "id")
					if d := dealers[id]; d != nil {
						closeNow(t, d)
						delete(dealers, id)
						delete(got, id)
						synctest.Wait()
					}
				},
				"send": func(rt *rapid.T) {
					id := ids.Draw(rt, "id")
					number++
					err := s.TrySend(message(id, fmt.Sprint(number)))
					switch {
					case dealers[id] == nil && err != ErrNoPeer:
						t.Fatalf("to nobody: %v", err)
					case dealers[id] != nil && err != nil:
						t.Fatalf("to %s: %v", id, err)
					case err == nil:
						got[id] = append(got[id], fmt.Sprint(number))
					}
				},
				"ask": func(rt *rapid.T) {
					id := ids.Draw(rt, "id")
					if dealers[id] == nil {
						return
					}
					mustSend(t, dealers[id], "question", id)
					mustRecv(t, s, id+",question,"+id)
				},
				"": func(*rapid.T) {
					synctest.Wait()
					for id, d := range dealers {
						if all := received(t, d); fmt.Sprint(all) != fmt.Sprint(got[id]) {
							t.Fatalf("%s received %q, want %q", id, all, got[id])
						}
						delete(got, id)
					}
				},
			})
		})
	})
}

// Messages of a DEALER go to its peers in turn and come from them in turn; without a peer Send
// waits (RFC 28; libzmq, test_spec_dealer).
func TestDealer(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		d := NewDealer(Config{}, DealerOptions{})
		defer closeNow(t, d)
		bind(t, n, d.Socket, addr)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Send(ctx, message("nobody")); err != context.DeadlineExceeded {
			t.Errorf("without a peer: %v", err)
		}
		var peers []*zmtptest.Raw
		for _, typ := range []SocketType{REP, DEALER, ROUTER} {
			peers = append(peers, rawPeer(t, n, typ, DEALER, ""))
			synctest.Wait()
		}
		for i := range 6 {
			mustSend(t, d, fmt.Sprint(i), "")
		}
		for i := range 6 {
			expectParts(peers[i%3], fmt.Sprint(i), "")
		}
		for i, r := range peers {
			for range 2 {
				sendParts(r, fmt.Sprint(i))
			}
			alive(r)
		}
		if got := fmt.Sprint(received(t, d)); got != "[0 1 2 0 1 2]" {
			t.Errorf("received %s", got)
		}
	})
}

// ProbeRouter sends an empty message on each new connection, Hello another one; Hiccup is received
// when the connection is lost (libzmq, test_probe_router, test_hello_msg and test_hiccup_msg).
func TestDealerGreetings(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		for _, c := range []struct {
			opt  DealerOptions
			want []string
		}{
			{DealerOptions{ProbeRouter: true}, []string{""}},
			{DealerOptions{ProbeRouter: true, Immediate: true}, []string{""}},
			{DealerOptions{Hello: message("hello", "there"), Hiccup: message("hic")},
				[]string{"hello", "there"}},
		} {
			d := NewDealer(inMemory(n, Config{}), c.opt)
			if err := d.Connect("tcp://a:1"); err != nil {
				t.Fatal(err)
			}
			if !c.opt.Immediate {
				mustSend(t, d, "first")
			}
			l := listenRaw(t, n, "a:1")
			for i := range 2 {
				r := acceptRaw(t, l)
				r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(ROUTER)...))
				r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(DEALER)...))
				expectParts(r, c.want...)
				if i == 0 && !c.opt.Immediate {
					expectParts(r, "first")
				}
				r.Conn.Close()
				if len(c.opt.Hiccup.wire) > 0 {
					mustRecv(t, d, "hic")
				}
			}
			closeNow(t, d)
			l.Close()
		}
	})
}

// A DEALER ignores a second Connect to the same endpoint, and goes on with the first (libzmq,
// socket_base.cpp).
func TestDealerConnectsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		d := NewDealer(inMemory(n, Config{}), DealerOptions{})
		defer closeNow(t, d)
		for range 2 {
			if err := d.Connect("tcp://a:1"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			mustSend(t, d, fmt.Sprint(i))
		}
		l := listenRaw(t, n, "a:1")
		r := acceptRaw(t, l)
		r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(ROUTER)...))
		r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(DEALER)...))
		for i := range 4 {
			expectParts(r, fmt.Sprint(i))
		}
	})
}
