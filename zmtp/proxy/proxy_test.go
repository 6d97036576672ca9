package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bound listens on an inproc name of the test, and returns the endpoint.
func bound(t *testing.T, s interface {
	Listen(string) (string, error)
	Close() error
}, name string) string {
	t.Helper()
	t.Cleanup(func() { s.Close() })
	endpoint, err := s.Listen("inproc://" + t.Name() + name)
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func connected(t *testing.T, s interface {
	Connect(string) error
	Close() error
}, endpoint string) {
	t.Helper()
	t.Cleanup(func() { s.Close() })
	if err := s.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
}

// start runs a proxy, and returns it with a function that ends it and checks its result.
func start(t *testing.T, front, back Socket, capture Sender) (p *Proxy, end func()) {
	t.Helper()
	p, err := New(front, back, capture)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	return p, func() {
		t.Helper()
		p.Terminate()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func send(t *testing.T, s interface {
	Send(context.Context, zmtp.Message) error
}, parts ...string) {
	t.Helper()
	if err := s.Send(t.Context(), zmtp.NewMessageString(parts...)); err != nil {
		t.Fatal(err)
	}
}

func recv(t *testing.T, s interface {
	Recv(context.Context) (zmtp.Message, error)
}, want ...string) {
	t.Helper()
	m, err := s.Recv(t.Context())
	var got []string
	for part := range m.Parts() {
		got = append(got, string(part))
	}
	if err != nil || strings.Join(got, ",") != strings.Join(want, ",") {
		t.Fatalf("received %q, %v, want %q", got, err, want)
	}
}

// Requests of several REQs go through ROUTER and DEALER to several REPs, and each reply comes back
// to the one that asked; the capture has a copy of everything (libzmq, test_proxy and
// test_reqrep_device).
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := zmtp.NewRouter(zmtp.Config{}, zmtp.RouterOptions{})
		dealer := zmtp.NewDealer(zmtp.Config{}, zmtp.DealerOptions{})
		capture := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		front, back := bound(t, router, "front"), bound(t, dealer, "back")
		tap := zmtp.NewPull(zmtp.Config{})
		connected(t, tap, bound(t, capture, "capture"))
		for range 2 {
			rep := zmtp.NewRep(zmtp.Config{})
			connected(t, rep, back)
			go func() {
				for {
					m, err := rep.Recv(t.Context())
					if err != nil || rep.TrySend(m.Prepend([]byte("reply to"))) != nil {
						return
					}
				}
			}()
		}
		p, end := start(t, router, dealer, capture)
		var reqs []*zmtp.Req
		for range 3 {
			req := zmtp.NewReq(zmtp.Config{}, zmtp.ReqOptions{})
			connected(t, req, front)
			reqs = append(reqs, req)
		}
		const rounds = 4
		for i := range rounds {
			for j, req := range reqs {
				send(t, req, fmt.Sprint(i), fmt.Sprint(j))
			}
			for j, req := range reqs {
				recv(t, req, "reply to", fmt.Sprint(i), fmt.Sprint(j))
			}
		}
		synctest.Wait()
		end()
		for range 2 * rounds * len(reqs) {
			if _, err := tap.TryRecv(); err != nil {
				t.Fatalf("the capture: %v", err)
			}
		}
		st, n := p.Statistics(), uint64(rounds*len(reqs))
		want := [2]zmtp.Traffic{{Messages: n, Parts: 4 * n, Bytes: 7 * n},
			{Messages: n, Parts: 5 * n, Bytes: 15 * n}}
		if got := [2]zmtp.Traffic{st.Front.In, st.Front.Out}; got != want {
			t.Errorf("the front has passed %+v, want %+v", got, want)
		}
		if st.Back.Out != st.Front.In || st.Back.In != st.Front.Out || st.Back.Dropped != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A paused proxy passes nothing and loses nothing; commands come through a socket (libzmq,
// test_proxy_steerable).
func TestSteer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pull := zmtp.NewPull(zmtp.Config{})
		push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		source := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		drain := zmtp.NewPull(zmtp.Config{})
		connected(t, source, bound(t, pull, "front"))
		connected(t, drain, bound(t, push, "back"))
		p, end := start(t, pull, push, nil)
		rep := zmtp.NewRep(zmtp.Config{})
		req := zmtp.NewReq(zmtp.Config{}, zmtp.ReqOptions{})
		connected(t, req, bound(t, rep, "control"))
		served := make(chan error, 1)
		go func() { served <- p.Serve(t.Context(), rep) }()
		command := func(text string) zmtp.Message {
			t.Helper()
			send(t, req, text)
			m, err := req.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		send(t, source, "1")
		recv(t, drain, "1")
		for _, text := range []string{"PAUSE", "PAUSE", "nonsense", ""} {
			if m := command(text); m.NumParts() != 1 || m.Size() != 0 {
				t.Errorf("%q was answered with %d parts of %d bytes", text, m.NumParts(), m.Size())
			}
		}
		send(t, source, "2", "two")
		synctest.Wait()
		if _, err := drain.TryRecv(); err != zmtp.ErrWouldBlock {
			t.Errorf("a paused proxy passes messages: %v", err)
		}
		command("RESUME")
		recv(t, drain, "2", "two")
		synctest.Wait() // until the proxy has counted what it sent
		var numbers []uint64
		for part := range command("STATISTICS").Parts() {
			numbers = append(numbers, binary.NativeEndian.Uint64(part))
		}
		if got := fmt.Sprint(numbers); got != "[3 5 0 0 0 0 3 5]" {
			t.Errorf("statistics %s", got)
		}
		command("TERMINATE")
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		end()
	})
}

// The end of the context, or of a socket, stops a proxy that waits for room, and what it holds
// counts as dropped (libzmq, test_proxy_terminate).
func TestTerminateUnderPressure(t *testing.T) {
	for _, how := range []string{"terminate", "close"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pull := zmtp.NewPull(zmtp.Config{})
				push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
				source := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
				connected(t, source, bound(t, pull, "front"))
				bound(t, push, "back") // nobody connects
				p, end := start(t, pull, push, nil)
				for range 10 {
					send(t, source, "message")
				}
				synctest.Wait()
				if how == "close" {
					push.Close()
				}
				end()
				if st := p.Statistics(); st.Front.In.Messages == 0 ||
					st.Back.Dropped != st.Front.In.Messages {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// XSUB and XPUB make a broker: subscriptions pass one way, messages the other (libzmq,
// test_sub_forward).
func TestBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		xsub := zmtp.NewXSub(zmtp.Config{})
		xpub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{})
		pub, sub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{}), zmtp.NewSub(zmtp.Config{})
		connected(t, pub, bound(t, xsub, "front"))
		if err := sub.Subscribe("a"); err != nil {
			t.Fatal(err)
		}
		connected(t, sub, bound(t, xpub, "back"))
		_, end := start(t, xsub, xpub, nil)
		recv(t, pub, "\x01a")
		send(t, pub, "abc", "body")
		send(t, pub, "b", "nobody")
		recv(t, sub, "abc", "body")
		end()
	})
}

// A socket that is front and back sends back what it receives (libzmq, test_proxy_single_socket). A
// message for a peer that is gone is dropped, and those behind it pass.
func TestSingleSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rep := zmtp.NewRep(zmtp.Config{})
		req := zmtp.NewReq(zmtp.Config{}, zmtp.ReqOptions{})
		connected(t, req, bound(t, rep, "rep"))
		_, end := start(t, rep, rep, nil)
		for i := range 3 {
			send(t, req, "echo", fmt.Sprint(i))
			recv(t, req, "echo", fmt.Sprint(i))
		}
		end()
		router := zmtp.NewRouter(zmtp.Config{}, zmtp.RouterOptions{Mandatory: true})
		pull := zmtp.NewPull(zmtp.Config{})
		push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
		dealer := zmtp.NewDealer(zmtp.Config{RoutingID: []byte("id")}, zmtp.DealerOptions{})
		connected(t, dealer, bound(t, router, "router"))
		connected(t, push, bound(t, pull, "pull"))
		synctest.Wait()
		p, end := start(t, pull, router, nil)
		for _, m := range [][]string{{"id", "1"}, {"gone", "2"}, {"no body"}, {"id", "3"}} {
			send(t, push, m...)
		}
		recv(t, dealer, "1")
		recv(t, dealer, "3")
		end()
		if st := p.Statistics(); st.Back.Dropped != 2 || st.Back.Out.Messages != 2 {
			t.Errorf("%+v", st)
		}
		if _, err := New(pull, pull, nil); err == nil {
			t.Error("a proxy from PULL to PULL")
		}
	})
}
