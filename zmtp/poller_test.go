package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/zmtptest"
)

// wantReady checks which sockets a poller has ready.
func wantReady(t *testing.T, p *Poller, want ...Receiver) {
	t.Helper()
	synctest.Wait()
	if got := p.Ready(); !slices.Equal(got.Receivers, want) || got.Senders != nil {
		t.Errorf("ready: %v, want %v", got, want)
	}
}

// A poller tells which sockets have something to receive, until it is received, and that a socket
// has ended (libzmq, test_poller).
func TestPoller(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, rep, idle := NewPull(Config{}), NewRep(Config{}), NewPull(Config{})
		defer closeNow(t, idle)
		bind(t, n, pull.Socket, "pull:1")
		bind(t, n, rep.Socket, "rep:1")
		push, req := NewPush(inMemory(n, Config{})), NewReq(inMemory(n, Config{}))
		err := errors.Join(push.Connect("tcp://pull:1"), req.Connect("tcp://rep:1"))
		if err != nil {
			t.Fatal(err)
		}
		var p Poller
		for _, s := range []Receiver{pull, rep, idle, req, pull} {
			p.Add(s)
		}
		wantReady(t, &p)
		mustSend(t, push, "1")
		mustSend(t, push, "2")
		wantReady(t, &p, pull)
		if err := req.Send(t.Context(), message("question")); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p, pull, rep)
		mustRecv(t, pull, "1")
		wantReady(t, &p, pull, rep)
		mustRecv(t, pull, "2")
		wantReady(t, &p, rep)
		if _, err := rep.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p) // the request has to be answered first
		if err := rep.Send(t.Context(), message("answer")); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p, req)
		if _, err := req.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p)
		p.Remove(pull)
		mustSend(t, push, "3")
		wantReady(t, &p)
		p.Add(pull)
		wantReady(t, &p, pull)
		closeNow(t, push)
		closeNow(t, pull)
		closeNow(t, req)
		closeNow(t, rep)
		wantReady(t, &p, rep, req, pull)
	})
}

// Wait waits without a goroutine of its own: for a message, for a socket that is added, or for the
// end of its context. Several goroutines may wait at once.
func TestPollerWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		var p Poller
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, "pull:1")
		push := NewPush(inMemory(n, Config{}))
		defer closeNow(t, push)
		if err := push.Connect("tcp://pull:1"); err != nil {
			t.Fatal(err)
		}
		p.Add(pull)
		synctest.Wait()
		before := runtime.NumGoroutine()
		const waiting = 3
		done := make(chan error, waiting)
		for range waiting {
			go func() {
				got, err := p.Wait(t.Context())
				if err == nil && !slices.Equal(got.Receivers, []Receiver{pull}) {
					err = errors.New("the wrong sockets are ready")
				}
				done <- err
			}()
		}
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != waiting {
			t.Errorf("%d goroutines for %d calls", n, waiting)
		}
		mustSend(t, push, "1")
		for range waiting {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		mustRecv(t, pull, "1")

		late := NewPull(Config{})
		closeNow(t, late)
		go func() {
			time.Sleep(time.Second)
			p.Add(late)
		}()
		if got, err := p.Wait(t.Context()); err != nil ||
			!slices.Equal(got.Receivers, []Receiver{late}) {
			t.Errorf("%v, %v", got, err)
		}
		p.Remove(late)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// wantWritable checks whether the only socket of a poller can send.
func wantWritable(t *testing.T, p *Poller, when string, want bool) {
	t.Helper()
	synctest.Wait()
	if got := p.Ready(); len(got.Senders) == 1 != want || got.Receivers != nil {
		t.Errorf("%s: ready %v, want %v", when, got, want)
	}
}

// becomesWritable waits until the only socket of a poller can send.
func becomesWritable(t *testing.T, p *Poller, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// A socket that sends can do so when a peer is there and has room, as often as the poller says.
// Wait ends when a queue has drained to half, and when the socket has ended. Over tcp the queue is
// the sender's, over inproc the receiver's (ZMQ_POLLOUT).
func TestPollerSends(t *testing.T) {
	type socket interface {
		Sender
		TrySend(Message) error
		Listen(string) (string, error)
		Serve(net.Listener) (string, error)
		Close() error
	}
	cfg := Config{SendHWM: 4, RecvHWM: 4}
	for name, c := range map[string]struct {
		from func(Config) socket
		to   func(Config) testReceiver
		m    Message
	}{
		"PUSH": {func(c Config) socket { return NewPush(c) },
			func(c Config) testReceiver { return NewPull(c) }, message("m")},
		"DEALER": {func(c Config) socket { return NewDealer(c) },
			func(c Config) testReceiver { return NewDealer(c) }, message("m")},
		"PAIR": {func(c Config) socket { return NewPair(c) },
			func(c Config) testReceiver { return NewPair(c) }, message("m")},
		"CHANNEL": {func(c Config) socket { return NewChannel(c) },
			func(c Config) testReceiver { return NewChannel(c) }, message("m")},
		"SCATTER": {func(c Config) socket { return NewScatter(c) },
			func(c Config) testReceiver { return NewGather(c) }, message("m")},
		"ROUTER": {func(c Config) socket { return NewRouter(c, RouterOptions{Mandatory: true}) },
			func(c Config) testReceiver {
				c.RoutingID = []byte("x")
				return NewDealer(c)
			}, message("x", "m")},
		"XPUB": {func(c Config) socket { return NewXPub(c, XPubOptions{NoDrop: true}) },
			func(c Config) testReceiver {
				s := NewSub(c)
				s.Subscribe("")
				return s
			}, message("m")},
	} {
		for _, inproc := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s inproc=%v", name, inproc), func(t *testing.T) {
				bubble(t, func(t *testing.T, n *zmtptest.Network) {
					n.Buffer = 256
					from, to := c.from(inMemory(n, cfg)), c.to(inMemory(n, cfg))
					defer closeNow(t, to)
					var p Poller
					p.AddSender(from)
					p.AddSender(from)
					wantWritable(t, &p, "without a peer", name == "XPUB")
					endpoint := "inproc://" + t.Name()
					if _, err := from.Listen(endpoint); err != nil {
						t.Fatal(err)
					}
					if !inproc {
						endpoint = "tcp://from:1"
						l, err := n.Listen("from:1")
						if err != nil {
							t.Fatal(err)
						}
						from.Serve(l)
					}
					if err := to.Connect(endpoint); err != nil {
						t.Fatal(err)
					}
					becomesWritable(t, &p, "with a peer")
					sent := 0
					for {
						synctest.Wait()
						ready, err := len(p.Ready().Senders) == 1, from.TrySend(c.m)
						if ready != (err == nil) {
							t.Fatalf("message %d: ready %v, sent %v", sent, ready, err)
						}
						if err != nil {
							break
						}
						sent++
					}
					if sent < 4 {
						t.Fatalf("%d messages fit", sent)
					}
					go func() {
						time.Sleep(time.Second)
						for range sent {
							to.Recv(t.Context())
						}
					}()
					start := time.Now()
					becomesWritable(t, &p, "after the peer has received")
					if time.Since(start) < time.Second {
						t.Error("Wait did not wait")
					}
					time.Sleep(time.Minute)
					for from.TrySend(c.m) == nil {
						synctest.Wait()
					}
					go func() {
						time.Sleep(time.Second)
						from.Close()
					}()
					becomesWritable(t, &p, "after the end")
					p.RemoveSender(from)
					wantWritable(t, &p, "after RemoveSender", false)
				})
			})
		}
	}
}

// testReceiver is what the peers of TestPollerSends are.
type testReceiver interface {
	Receiver
	Connect(string) error
	Close() error
}

// Types that drop what has no room can always send; a REQ in its turn, if it has a peer; a REP
// while a request waits for its reply.
func TestPollerSendsInTurn(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		for _, s := range []interface {
			Sender
			Close() error
		}{NewPub(Config{}), NewXPub(Config{}), NewXSub(Config{}), NewRadio(Config{}),
			NewRouter(Config{})} {
			var p Poller
			p.AddSender(s)
			wantWritable(t, &p, string(s.Type()), true)
			closeNow(t, s)
		}
		req, rep := NewReq(inMemory(n, Config{})), NewRep(Config{})
		bind(t, n, rep.Socket, "rep:1")
		var asks, answers Poller
		asks.AddSender(req)
		answers.AddSender(rep)
		wantWritable(t, &asks, "a REQ without a peer", false)
		if err := req.Connect("tcp://rep:1"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			becomesWritable(t, &asks, "a REQ with a peer")
			wantWritable(t, &answers, "a REP without a request", false)
			if err := req.TrySend(message("question")); err != nil {
				t.Fatal(err)
			}
			wantWritable(t, &asks, "a REQ without the reply", false)
			go func() { rep.Recv(t.Context()) }()
			becomesWritable(t, &answers, "a REP with a request")
			if err := rep.TrySend(message("answer")); err != nil {
				t.Fatal(err)
			}
			wantWritable(t, &answers, "a REP that has replied", false)
			wantWritable(t, &asks, "a REQ that has not received the reply", false)
			go func() { req.Recv(t.Context()) }()
		}
		becomesWritable(t, &asks, "a REQ that has received the reply")
		closeNow(t, req)
		closeNow(t, rep)
		wantWritable(t, &asks, "a REQ that has ended", true)
		wantWritable(t, &answers, "a REP that has ended", true)
	})
}

// SERVER and PEER can send when a peer has room.
func TestPollerSendsAddressed(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 256
		server := NewServer(Config{SendHWM: 2})
		defer closeNow(t, server)
		bind(t, n, server.Socket, "server:1")
		var p Poller
		p.AddSender(server)
		wantWritable(t, &p, "without a peer", false)
		client := NewClient(inMemory(n, Config{RecvHWM: 2}))
		defer closeNow(t, client)
		if err := client.Connect("tcp://server:1"); err != nil {
			t.Fatal(err)
		}
		becomesWritable(t, &p, "with a peer")
		mustSend(t, client, "hello")
		m, err := server.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for server.TrySend(m.Peer().ID(), message("m")) == nil {
			synctest.Wait()
		}
		wantWritable(t, &p, "with a full peer", false)
		go func() {
			for range 4 {
				client.Recv(t.Context())
			}
		}()
		becomesWritable(t, &p, "after the peer has received")
		// A peer that is full and leaves makes room for nobody; the next one does.
		for server.TrySend(m.Peer().ID(), message("m")) == nil {
			synctest.Wait()
		}
		closeNow(t, client)
		next := NewClient(inMemory(n, Config{}))
		defer closeNow(t, next)
		if err := next.Connect("tcp://server:1"); err != nil {
			t.Fatal(err)
		}
		becomesWritable(t, &p, "with the next peer")
	})
}
