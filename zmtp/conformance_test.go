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
	peer   wire.SocketType // a type that may talk to it
	single bool            // it has one peer at a time
	last   int             // 1 for the second of two types that talk to each other, else 0
	make   func(Config) *vectorSocket
	// use calls every method that an application may call, until the socket is closed.
	use func(ctx context.Context, s *vectorSocket)
}

// openType makes a socket of any type.
func openType(typ wire.SocketType, cfg Config) *vectorSocket {
	type both interface {
		TrySend(Message) error
		TryRecv() (Message, error)
	}
	of := func(s *Socket, b both) *vectorSocket {
		return &vectorSocket{Socket: s, sendTo: b.TrySend, recv: b.TryRecv}
	}
	// answering gives each message to the peer from which the last one came, or to any.
	answering := func(s *Socket, send func(uint64, Message) error,
		recv func() (Message, error)) *vectorSocket {
		var last atomic.Uint64
		return &vectorSocket{Socket: s,
			sendTo: func(m Message) error {
				err := send(last.Load(), m)
				if err == ErrNoPeer {
					err = send(anyPeer(s), m)
				}
				return err
			},
			recv: func() (Message, error) {
				m, err := recv()
				if err == nil {
					last.Store(m.Peer().ID())
				}
				return m, err
			}}
	}
	switch typ {
	case wire.REQ:
		s := NewReq(cfg, ReqOptions{Relaxed: true})
		return of(s.Socket, s)
	case wire.REP:
		s := NewRep(cfg)
		return of(s.Socket, s)
	case wire.DEALER:
		s := NewDealer(cfg, DealerOptions{})
		return of(s.Socket, s)
	case wire.ROUTER:
		s := NewRouter(cfg, RouterOptions{})
		return of(s.Socket, s)
	case wire.PAIR:
		s := NewPair(cfg)
		return of(s.Socket, s)
	case wire.CLIENT:
		s := NewClient(cfg, ClientOptions{})
		return of(s.Socket, s)
	case wire.SERVER:
		s := NewServer(cfg, ServerOptions{})
		return answering(s.Socket, s.TrySend, s.TryRecv)
	case wire.PEER:
		s := NewPeerSocket(cfg, ServerOptions{})
		return answering(s.Socket, s.TrySend, s.TryRecv)
	case wire.CHANNEL:
		s := NewChannel(cfg)
		return of(s.Socket, s)
	case wire.SCATTER:
		s := NewScatter(cfg, ScatterOptions{})
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend}
	case wire.GATHER:
		s := NewGather(cfg)
		return &vectorSocket{Socket: s.Socket, recv: s.TryRecv}
	case wire.RADIO:
		s := NewRadio(cfg)
		return &vectorSocket{Socket: s.Socket, sendTo: s.TrySend}
	case wire.DISH:
		s := NewDish(cfg)
		return &vectorSocket{Socket: s.Socket, recv: s.TryRecv,
			subscribe:   func(group []byte) error { return s.Join(string(group)) },
			unsubscribe: func(group []byte) error { return s.Leave(string(group)) }}
	}
	return newVectorSocket(typ, cfg, false)
}

// anyPeer returns the ID of one of the peers to which something can be sent, 0 if there is none.
func anyPeer(s *Socket) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		if !p.outbox.isClosed() { // as it is while a connection ends
			return p.ID()
		}
	}
	return 0
}

func kinds() map[wire.SocketType]kind {
	send := func(ctx context.Context, s *vectorSocket) {
		m := NewMessageString("topic", "some text")
		switch s.local {
		case wire.CLIENT, wire.SERVER, wire.PEER, wire.SCATTER, wire.CHANNEL:
			m = NewMessageString("some text")
		}
		for s.sendTo(m) != ErrClosed && ctx.Err() == nil {
			runtime.Gosched()
		}
	}
	recv := func(ctx context.Context, s *vectorSocket) {
		for ctx.Err() == nil {
			m, err := s.recv()
			if err == ErrClosed {
				return
			}
			if err == nil && s.sendTo != nil {
				s.sendTo(m) // with the routing id of the peer, where there is one
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
	use := func(ctx context.Context, s *vectorSocket) {
		var wg sync.WaitGroup
		for range 2 {
			if s.sendTo != nil {
				wg.Go(func() { send(ctx, s) })
			}
			if s.recv != nil {
				wg.Go(func() { recv(ctx, s) })
			}
			if s.subscribe != nil {
				wg.Go(func() { subscribe(ctx, s) })
			}
		}
		wg.Wait()
	}
	all := make(map[wire.SocketType]kind)
	for _, pair := range [][2]wire.SocketType{{wire.PUB, wire.SUB}, {wire.XPUB, wire.XSUB},
		{wire.PUSH, wire.PULL}, {wire.REQ, wire.REP}, {wire.DEALER, wire.ROUTER},
		{wire.PAIR, wire.PAIR}, {wire.CLIENT, wire.SERVER}, {wire.RADIO, wire.DISH},
		{wire.SCATTER, wire.GATHER}, {wire.PEER, wire.PEER}, {wire.CHANNEL, wire.CHANNEL}} {
		for i, typ := range pair {
			all[typ] = kind{peer: pair[1-i], last: i, use: use,
				single: typ == wire.PAIR || typ == wire.CHANNEL,
				make:   func(cfg Config) *vectorSocket { return openType(typ, cfg) }}
		}
	}
	return all
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
				synctest.Wait()

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
					bad := dialRaw(t, n, addr)
					shake(bad, k.peer, typ)
					good := bad
					if !k.single {
						good = dialRaw(t, n, addr)
						shake(good, k.peer, typ)
					}
					bad.Send(c.in)
					bad.ExpectClose()
					synctest.Wait()
					if st := s.Stats(); st.Closed[c.reason] != 1 {
						t.Errorf("closed %v, want %v", st.Closed, c.reason)
					}
					if k.single { // another one may come
						good = dialRaw(t, n, addr)
						shake(good, k.peer, typ)
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
			for _, name := range []string{"", "UNKNOWN", "READY", "ERROR", "PONG", "JOIN", "LEAVE",
				"subscribe"} {
				r.Send(wire.AppendCommand(nil, name, []byte("x")))
			}
			if typ != wire.PUB && typ != wire.XPUB {
				r.Send(append(subscribe("t"), cancel("t")...))
			}
			alive(r)
			if s.recv != nil {
				if m, err := s.recv(); err != ErrWouldBlock && err != ErrState {
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
		ends := []string{"Shutdown", "Close"}
		if !testkit.Nightly() { // of two types that talk to each other, one ends in each way
			ends = ends[k.last : k.last+1]
		}
		for _, end := range ends {
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
				for s.Stats().Handshakes < 3 && ctx.Err() == nil {
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
