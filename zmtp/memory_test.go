package zmtp

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// nothingUsed checks that all memory was returned once the sockets are closed.
func nothingUsed(t *testing.T, budget *memory.Budget) {
	t.Helper()
	synctest.Wait()
	if st := budget.Stats(); st.Used != 0 || st.Holders != 0 || st.Waiting != 0 {
		t.Errorf("in the end: %+v", st)
	}
}

// Peers that leave large messages unfinished stay below the budget and do not delay others. They
// are closed when an honest peer needs the memory.
func TestUnfinishedMessagesKeepToBudget(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		const limit, size = 16 << 20, 4 << 20
		budget := memory.New(limit, nil)
		defer nothingUsed(t, budget)
		pull := NewPull(Config{Memory: budget, TotalRecvBytes: -1})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		message := frame(string(make([]byte, size)))
		for range 25 {
			conn, err := n.Dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			r := zmtptest.NewRaw(t, conn)
			shake(r, wire.PUSH, wire.PULL)
			conn.SetDeadline(time.Time{})
			go conn.Write(message[:len(message)-1]) // ends with the connection at the latest
		}
		synctest.Wait()
		honest := dialRaw(t, n, addr)
		shake(honest, wire.PUSH, wire.PULL)
		for range 100 {
			honest.Send(frame(string(make([]byte, 1000))))
			if _, err := pull.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if st := budget.Stats(); st.Peak > limit || st.Peak < limit*3/4 || st.Waiting == 0 ||
			st.Evicted > 0 {
			t.Errorf("while they wait: %+v", st)
		}
		honest.Timeout = time.Minute
		honest.Send(frame(string(make([]byte, size/4))))
		if m, err := pull.Recv(t.Context()); err != nil || m.Size() != size/4 {
			t.Error(m.Size(), err)
		}
		if closed := pull.Stats().Closed[wire.MemoryExhausted]; closed == 0 ||
			closed != budget.Stats().Evicted {
			t.Errorf("%d connections are closed, %+v", closed, budget.Stats())
		}
		if peak := budget.Stats().Peak; peak > limit {
			t.Errorf("%d bytes were used, the limit is %d", peak, limit)
		}
	})
}

// The queues of subscribers that do not read stay below the budget. A subscriber that reads
// receives everything.
func TestStalledSubscribersKeepToBudget(t *testing.T) {
	for _, size := range []int{1000, 10_000, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				const limit, stalled = 32 << 20, 50
				budget := memory.New(limit, nil)
				defer nothingUsed(t, budget)
				xpub := NewXPub(Config{Memory: budget, SendHWM: -1}, XPubOptions{})
				defer closeNow(t, xpub)
				bind(t, n, xpub.Socket, addr)
				for range stalled {
					r := dialRaw(t, n, addr)
					shake(r, wire.SUB, wire.XPUB)
					r.Send(subscribe(""))
				}
				synctest.Wait()
				healthy := NewSub(inMemory(n, Config{}))
				defer closeNow(t, healthy)
				if err := healthy.Subscribe(""); err != nil {
					t.Fatal(err)
				}
				if err := healthy.Connect("tcp://" + addr); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				// What each may leave unread on the way is some MB more than it can have of the
				// budget.
				count := 4 << 20 / size
				for i := range count {
					if err := xpub.TrySend(NewMessageString("topic",
						string(make([]byte, size)))); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if _, err := healthy.TryRecv(); err != nil {
						t.Fatalf("message %d of %d: %v, %+v", i, count, err, budget.Stats())
					}
				}
				// One chunk each may be had beyond.
				if st := budget.Stats(); st.Peak > limit+stalled*chunkSize {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// However messages and connections end, no memory counts as used afterwards.
func TestMemoryIsGivenBack(t *testing.T) {
	large := string(bytes.Repeat([]byte("x"), 300_000))
	for name, f := range map[string]func(t *testing.T, n *zmtptest.Network, cfg Config){
		"received and dropped": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			pull := NewPull(cfg)
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			for range 5 {
				r.Send(append(frame("small"), frame(large)...))
			}
			synctest.Wait()
			if _, err := pull.TryRecv(); err != nil {
				t.Error(err)
			}
			b, err := pull.TryRecvBatch()
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
		},
		"batch kept beyond the end": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			pull := NewPull(cfg)
			bind(t, n, pull.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			r.Send(frame(large))
			b, err := pull.RecvBatch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			closeNow(t, pull)
			synctest.Wait()
			if used := cfg.Memory.Stats().Used; used < int64(len(large)) {
				t.Errorf("%d bytes are used, a batch of %d is not released", used, len(large))
			}
			b.Release()
		},
		"sent to peers that go": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			push := NewPush(cfg, PushOptions{})
			defer closeNow(t, push)
			bind(t, n, push.Socket, addr)
			for range 3 {
				r := dialRaw(t, n, addr)
				shake(r, wire.PULL, wire.PUSH)
				synctest.Wait()
				for range 10 {
					if err := push.TrySend(NewMessageString("small")); err != nil {
						t.Fatal(err)
					}
					if err := push.TrySend(NewMessageString(large)); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				r.Conn.(*zmtptest.Conn).Cut() // what waits is returned, and goes to the next
				synctest.Wait()
			}
			if msgs, _ := push.Returned(); msgs == 0 {
				t.Error("nothing was returned")
			}
		},
		"queued for an endpoint": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			push := NewPush(inMemory(n, cfg), PushOptions{})
			defer closeNow(t, push)
			l := listenRaw(t, n, addr)
			if err := push.Connect("tcp://" + addr); err != nil {
				t.Fatal(err)
			}
			r := acceptRaw(t, l)
			shake(r, wire.PULL, wire.PUSH)
			for range 20 {
				if err := push.TrySend(NewMessageString("small", large)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			r.Conn.(*zmtptest.Conn).Cut()
			synctest.Wait()
		},
		"passed on": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			pull, push := NewPull(cfg), NewPush(inMemory(n, cfg), PushOptions{})
			defer closeNow(t, push)
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			if err := push.Connect("tcp://10.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			for range 5 {
				r.Send(append(frame("small"), frame(large)...))
				b, err := pull.RecvBatch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := push.SendBatch(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				b.Release()
			}
		},
		"subscriptions": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			xpub := NewXPub(cfg, XPubOptions{Verbose: true})
			defer closeNow(t, xpub)
			bind(t, n, xpub.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.SUB, wire.XPUB)
			for i := range 1000 {
				r.Send(subscribe(fmt.Sprint("topic ", i)))
				r.Send(subscribe("twice"))
			}
			for i := range 500 {
				r.Send(cancel(fmt.Sprint("topic ", i)))
			}
			r.Send(cancel("twice"))
			r.Send(cancel("unknown"))
			synctest.Wait()
			if used := cfg.Memory.Stats().ByKind["connections"]; used < 500*256 {
				t.Errorf("501 topics count as %d bytes", used)
			}
			r.Send(frame("\x01as a message"))
			r.Send(append(wire.AppendFrame(nil, wire.More, []byte("upstream")),
				frame("\x01behind")...))
			for range 100 {
				if err := xpub.TrySend(NewMessageString("topic 900", large)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"topics of a publisher": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			sub := NewSub(cfg)
			defer closeNow(t, sub)
			bind(t, n, sub.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUB, wire.SUB)
			for i := range 10_000 {
				if err := sub.Subscribe(fmt.Sprint("topic ", i)); err != nil {
					t.Fatal(err)
				}
			}
			r.Send(append(frame("topic 1"), frame(large)...))
		},
		"lost within a message": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			pull := NewPull(cfg)
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			r.Send(frame(large)[:200_000])
			synctest.Wait()
			r.Conn.(*zmtptest.Conn).Cut()
			synctest.Wait()
		},
		"handshakes": func(t *testing.T, n *zmtptest.Network, cfg Config) {
			pull := NewPull(cfg)
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			var conns []net.Conn
			for range 3 {
				conn, err := n.Dial(t.Context(), addr)
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
			}
			synctest.Wait()
			if used := cfg.Memory.Stats().Used; used != 3*peerFloor {
				t.Errorf("%d bytes are used by 3 pending handshakes", used)
			}
			conns[0].Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				budget := memory.New(64<<20, nil)
				f(t, n, Config{Memory: budget})
				nothingUsed(t, budget)
				time.Sleep(time.Second)
			})
		})
	}
}
