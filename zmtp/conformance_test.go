package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A kind is a socket type behind the methods that all types have in common.
type kind struct {
	peer wire.SocketType // a type that may talk to it
	make func(Config) *vectorSocket
	// use calls every method that an application may call, until the socket is closed.
	use func(ctx context.Context, s *vectorSocket)
}

func kinds() map[wire.SocketType]kind {
	m := NewMessageString("topic", "some text")
	send := func(ctx context.Context, s *vectorSocket) {
		for s.sendTo(m) != ErrClosed && ctx.Err() == nil {
			runtime.Gosched()
		}
	}
	recv := func(ctx context.Context, s *vectorSocket) {
		for ctx.Err() == nil {
			if _, err := s.recv(); err == ErrClosed {
				return
			}
			runtime.Gosched()
		}
	}
	subscribe := func(ctx context.Context, s *vectorSocket) {
		for i := 0; ctx.Err() == nil; i++ {
			if s.subscribe([]byte{'t', byte(i)}) != nil ||
				s.unsubscribe([]byte{'t', byte(i)}) != nil {
				return
			}
			runtime.Gosched()
		}
	}
	all := func(fs ...func(context.Context, *vectorSocket)) func(context.Context, *vectorSocket) {
		return func(ctx context.Context, s *vectorSocket) {
			var wg sync.WaitGroup
			for _, f := range fs {
				wg.Go(func() { f(ctx, s) })
				wg.Go(func() { f(ctx, s) })
			}
			wg.Wait()
		}
	}
	of := func(typ wire.SocketType) func(Config) *vectorSocket {
		return func(cfg Config) *vectorSocket { return newVectorSocket(typ, cfg, false) }
	}
	return map[wire.SocketType]kind{
		wire.PUB:  {wire.SUB, of(wire.PUB), send},
		wire.SUB:  {wire.PUB, of(wire.SUB), all(recv, subscribe)},
		wire.XPUB: {wire.XSUB, of(wire.XPUB), all(send, recv)},
		wire.XSUB: {wire.XPUB, of(wire.XSUB), all(send, recv, subscribe)},
		wire.PUSH: {wire.PULL, of(wire.PUSH), send},
		wire.PULL: {wire.PUSH, of(wire.PULL), recv},
	}
}

// forEachKind runs f for every socket type.
func forEachKind(t *testing.T, f func(t *testing.T, typ wire.SocketType, k kind)) {
	for typ, k := range kinds() {
		t.Run(string(typ), func(t *testing.T) { f(t, typ, k) })
	}
}

// Every type refuses peers of unsuitable types, on both sides, and accepts the others.
func TestEveryTypeChecksItsPeer(t *testing.T) {
	types := []wire.SocketType{
		wire.REQ, wire.REP, wire.DEALER, wire.ROUTER, wire.PUB, wire.SUB, wire.XPUB, wire.XSUB,
		wire.PUSH, wire.PULL, wire.PAIR,
		wire.CLIENT, wire.SERVER, wire.RADIO, wire.DISH, wire.SCATTER, wire.GATHER, wire.PEER,
		wire.CHANNEL, "STREAM", "pub", "",
	}
	forEachKind(t, func(t *testing.T, typ wire.SocketType, k kind) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			s := k.make(inMemory(n, Config{}))
			defer closeNow(t, s.Socket)
			bind(t, n, s.Socket, addr)
			for _, other := range types {
				r := dialRaw(t, n, addr)
				r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(other)...))
				// after a refusal the peer has time to read what was sent before
				time.Sleep(time.Second)
				if open := s.Stats().Peers == 1; open != typ.Accepts(other) {
					t.Errorf("a %s that binds takes a %q: %v", typ, other, open)
				}
				r.Conn.Close()

				l := listenRaw(t, n, "other:1")
				s.Connect("tcp://other:1")
				r = acceptRaw(t, l)
				r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(other)...))
				time.Sleep(time.Second)
				open := s.Stats().Peers == 1
				if open != typ.Accepts(other) {
					t.Errorf("a %s that connects takes a %q: %v", typ, other, open)
				}
				if err := s.Disconnect("tcp://other:1"); (err == nil) != open {
					t.Errorf("Disconnect: %v", err)
				}
				r.Conn.Close()
				l.Close()
				time.Sleep(time.Minute)
			}
		})
	})
}

// Whatever bytes follow a handshake, the socket closes only that connection, with a reason.
func TestEveryTypeSurvivesGarbage(t *testing.T) {
	for name, c := range map[string]struct {
		in     []byte
		reason Reason
	}{
		"reserved bits":     {[]byte{0x08, 0}, wire.MalformedFrame},
		"COMMAND with MORE": {[]byte{0x05, 1, 0}, wire.MalformedFrame},
		"empty command":     {[]byte{0x04, 0}, wire.MalformedCommand},
		"name overruns":     {[]byte{0x04, 2, 5, 'P'}, wire.MalformedCommand},
		"PING without TTL":  {wire.AppendCommand(nil, wire.CmdPing, []byte{0}), wire.MalformedPing},
		"negative size":     {[]byte{0x02, 0xff, 0, 0, 0, 0, 0, 0, 0}, wire.MalformedFrame},
		"message too large": {[]byte{0x02, 0, 0, 0, 0, 0xff, 0, 0, 0}, wire.MessageTooLarge},
		"command too large": {[]byte{0x06, 0, 0, 0, 0, 0xff, 0, 0, 0}, wire.CommandTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			forEachKind(t, func(t *testing.T, typ wire.SocketType, k kind) {
				bubble(t, func(t *testing.T, n *zmtptest.Network) {
					s := k.make(Config{})
					defer closeNow(t, s.Socket)
					bind(t, n, s.Socket, addr)
					good, bad := dialRaw(t, n, addr), dialRaw(t, n, addr)
					shake(good, k.peer, typ)
					shake(bad, k.peer, typ)
					bad.Send(c.in)
					bad.ExpectClose()
					synctest.Wait()
					if st := s.Stats(); st.Closed[c.reason] != 1 {
						t.Errorf("closed %v, want %v", st.Closed, c.reason)
					}
					alive(good)
				})
			})
		})
	}
}

// A socket ignores commands that are unknown, that have no meaning for its type, or that have no
// meaning after the handshake.
func TestEveryTypeIgnores(t *testing.T) {
	forEachKind(t, func(t *testing.T, typ wire.SocketType, k kind) {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			s := k.make(Config{})
			defer closeNow(t, s.Socket)
			bind(t, n, s.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, k.peer, typ)
			for _, name := range []string{"", "UNKNOWN", "READY", "ERROR", "PONG", "JOIN", "subscribe"} {
				r.Send(wire.AppendCommand(nil, name, []byte("x")))
			}
			if typ != wire.PUB && typ != wire.XPUB {
				r.Send(append(subscribe("t"), cancel("t")...))
			}
			alive(r)
			if s.recv != nil {
				if m, err := s.recv(); err != ErrWouldBlock {
					t.Errorf("delivered %q, %v", text(m), err)
				}
			}
		})
	})
}

// All methods may be called at any time from any goroutine: the race detector finds nothing, and
// nothing hangs.
func TestEveryTypeConcurrently(t *testing.T) {
	forEachKind(t, func(t *testing.T, typ wire.SocketType, k kind) {
		for _, end := range []string{"Shutdown", "Close"} {
			t.Run(end, func(t *testing.T) {
				ctx := testContext(t)
				s, other := k.make(Config{}), kinds()[k.peer].make(Config{})
				bound, err := other.Listen("tcp://127.0.0.1:*")
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() { k.use(ctx, s) })
					wg.Go(func() { kinds()[k.peer].use(ctx, other) })
				}
				closed := make(chan struct{})
				wg.Go(func() { // the endpoints come and go
					for {
						select {
						case <-closed:
							return
						default:
						}
						s.Connect(bound)
						if own, err := s.Listen("tcp://127.0.0.1:*"); err == nil {
							s.Unbind(own)
						}
						for i := 0; i < 1000 && s.Stats().Peers == 0; i++ {
							runtime.Gosched() // most connections should come to be one
						}
						s.Disconnect(bound)
					}
				})
				wg.Go(func() {
					for {
						select {
						case <-closed:
							return
						default:
						}
						s.Stats()
						s.Peers()
						s.Endpoints()
						s.StopMonitor(s.Monitor(1))
						runtime.Gosched()
					}
				})
				if err := s.Connect(bound); err != nil {
					t.Error(err)
				}
				for s.Stats().Handshakes < 5 && ctx.Err() == nil {
					runtime.Gosched()
				}
				var ends sync.WaitGroup
				for range 3 {
					ends.Go(func() {
						// The receiving half of the sockets goes on meanwhile, as Shutdown
						// requires.
						limit, cancel := context.WithTimeout(ctx, 2*time.Second)
						defer cancel()
						var err error
						if end == "Close" {
							err = s.Close()
						} else if err = s.Shutdown(limit); errors.Is(err,
							context.DeadlineExceeded) {
							err = nil // the other side does not always read
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				ends.Wait()
				close(closed)
				closeNow(t, other.Socket)
				wg.Wait()
				if st := s.Stats(); st.Peers != 0 || st.PendingHandshakes != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	})
}

// heap returns the number of bytes in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	return st.HeapAlloc
}

// Handshakes that fail leave nothing behind.
func TestFailedHandshakesLeaveNothing(t *testing.T) {
	pull := NewPull(Config{})
	defer closeNow(t, pull)
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	inputs := [][]byte{
		nil, {'G'}, wire.AppendGreeting(nil, "CURVE", false),
		wire.AppendGreeting(nil, "NULL", false)[:40],
		append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUB)...),
	}
	fail := func(count int) {
		before := pull.Stats()
		for i := range count {
			conn, err := net.Dial("tcp", bound[len("tcp://"):])
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(inputs[i%len(inputs)])
			if i%2 == 0 { // the other half is left to the reset
				conn.(*net.TCPConn).CloseWrite()
				var b [128]byte
				for err == nil {
					_, err = conn.Read(b[:])
				}
			}
			conn.Close()
		}
		testkit.Eventually(t, "every handshake has failed", func() bool {
			return pull.Stats().Accepted == before.Accepted+uint64(count) &&
				pull.Stats().PendingHandshakes == 0
		})
	}
	fail(500)
	goroutines, bytes := runtime.NumGoroutine(), heap()
	fail(10_000)
	testkit.Eventually(t, "no goroutine is left",
		func() bool { return runtime.NumGoroutine() <= goroutines })
	if grown := int64(heap()) - int64(bytes); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	exchange1(t, pull, bound)
}

// Connections that come and go leave nothing behind, on either side.
func TestReconnectsLeaveNothing(t *testing.T) {
	var network zmtptest.Network
	xpub := NewXPub(Config{}, XPubOptions{})
	defer closeNow(t, xpub)
	bind(t, &network, xpub.Socket, addr)
	sub := NewSub(inMemory(&network,
		Config{ReconnectInterval: time.Microsecond, ReconnectMax: time.Microsecond}))
	defer closeNow(t, sub)
	for i := range 10 {
		sub.Subscribe(fmt.Sprint(i))
	}
	if err := sub.Connect("tcp://" + addr); err != nil {
		t.Fatal(err)
	}
	cycle := func(count int) {
		for range count {
			testkit.Eventually(t, "one connection is left with 10 topics",
				func() bool { return xpub.Topics() == 10 && len(network.Conns(addr)) == 1 })
			before := sub.Stats().Handshakes
			network.Conns(addr)[0].Cut()
			testkit.Eventually(t, "the SUB is connected again",
				func() bool { return sub.Stats().Handshakes == before+1 })
			received(t, xpub)
		}
		testkit.Eventually(t, "its topics are back", func() bool { return xpub.Topics() == 10 })
	}
	cycle(50)
	goroutines, bytes := runtime.NumGoroutine(), heap()
	cycle(1000)
	testkit.Eventually(t, "no goroutine is left",
		func() bool { return runtime.NumGoroutine() <= goroutines })
	if grown := int64(heap()) - int64(bytes); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if st := sub.Stats(); st.Handshakes < 1000 {
		t.Errorf("%d handshakes", st.Handshakes)
	}
}

// Several receivers together receive each message once.
func TestManyReceivers(t *testing.T) {
	pull := NewPull(Config{})
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	const senders, each = 4, 5000
	var sends, receives sync.WaitGroup
	for range senders {
		sends.Go(func() {
			push := NewPush(Config{}, PushOptions{})
			defer shutdown(t, push)
			if err := push.Connect(bound); err != nil {
				t.Error(err)
			}
			for range each {
				if err := push.Send(ctx, NewMessageString("m")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var got atomic.Int64
	for i := range 4 {
		receives.Go(func() {
			for {
				var n int
				var err error
				if i%2 == 0 {
					_, err = pull.Recv(ctx)
					n = 1
				} else {
					var b *Batch
					if b, err = pull.RecvBatch(ctx); err == nil {
						n = b.Len()
						b.Release()
					}
				}
				if err != nil {
					if err != ErrClosed {
						t.Error(err)
					}
					return
				}
				got.Add(int64(n))
			}
		})
	}
	sends.Wait()
	shutdown(t, pull)
	receives.Wait()
	if got.Load() != senders*each {
		t.Errorf("%d messages, want %d", got.Load(), senders*each)
	}
}
