package zmtp

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// attempts is a dialer that records the times of its calls.
type attempts struct {
	network zmtptest.Network
	mu      sync.Mutex
	at      []time.Time
}

func (a *attempts) dial(ctx context.Context, _, address string) (net.Conn, error) {
	a.mu.Lock()
	a.at = append(a.at, time.Now())
	a.mu.Unlock()
	return a.network.Dial(ctx, address)
}

// count returns how many attempts there were.
func (a *attempts) count() int {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// pauses returns the times between the attempts.
func (a *attempts) pauses() []time.Duration {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []time.Duration
	for i := 1; i < len(a.at); i++ {
		all = append(all, a.at[i].Sub(a.at[i-1]))
	}
	return all
}

// checkBackoff checks that pauses double from base up to limit, with up to half more at random.
func checkBackoff(t *testing.T, pauses []time.Duration, base, limit time.Duration) {
	t.Helper()
	jitter := false
	for i, d := range pauses {
		want := base
		for range i {
			want = min(2*want, limit)
		}
		if d < want || d > want+want/2 {
			t.Errorf("pause %d is %v, want %v to %v", i, d, want, want+want/2)
		}
		jitter = jitter || d != want
	}
	if len(pauses) > 3 && !jitter {
		t.Error("nothing is added at random")
	}
}

func TestReconnectBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		var a attempts
		sub := NewSub(Config{Dial: a.dial})
		defer closeNow(t, sub)
		m := sub.Monitor(200)
		if err := sub.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.Sleep(time.Minute)
		synctest.Wait()
		pauses := a.pauses()
		if !a.at[0].Equal(start) {
			t.Errorf("the first attempt is after %v, want at once", a.at[0].Sub(start))
		}
		checkBackoff(t, pauses, 100*time.Millisecond, 5*time.Second)
		if n := a.count(); n < 13 || n > 20 {
			t.Errorf("%d attempts in a minute", n)
		}
		// libzmq's sequence: CONNECT_DELAYED, CLOSED, CONNECT_RETRIED, again and again.
		for i, e := range events(m) {
			want := []EventType{EventConnectDelayed, EventClosed, EventConnectRetried}[i%3]
			if e.Type != want {
				t.Fatalf("event %d is %v, want %v", i, e.Type, want)
			}
			if i%3 > 0 && !errors.Is(e.Err, syscall.ECONNREFUSED) {
				t.Errorf("event %d says %v", i, e.Err)
			}
			if attempt := i / 3; e.Type == EventConnectRetried && attempt < len(pauses) &&
				e.Interval != pauses[attempt] {
				t.Errorf("event %d says %v, it was %v", i, e.Interval, pauses[attempt])
			}
		}
	})
}

// The pauses grow further when a peer accepts and closes, or fails in the handshake. A completed
// handshake resets them.
func TestBackoffSurvivesAcceptedConnections(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		var a attempts
		l := listenRaw(t, &a.network, addr)
		push := NewPush(Config{Dial: a.dial, ReconnectInterval: time.Second,
			ReconnectMax: time.Minute}, PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		for range 5 {
			acceptRaw(t, l).Conn.Close()
		}
		checkBackoff(t, a.pauses(), time.Second, time.Minute)
		r := acceptRaw(t, l)
		r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PULL)...))
		first := a.count()
		r.Conn.Close()
		acceptRaw(t, l).Conn.Close()
		acceptRaw(t, l)
		again := a.pauses()[first-1:]
		if len(again) != 2 {
			t.Fatalf("pauses %v", again)
		}
		checkBackoff(t, again, time.Second, time.Minute)
	})
}

// After a protocol violation the socket gives the endpoint up, and counts the messages that wait
// for it.
func TestProtocolErrorEndsTheEndpoint(t *testing.T) {
	greeting := wire.AppendGreeting(nil, "NULL", false)
	for name, in := range map[string][]byte{
		"wrong type": append(greeting[:len(greeting):len(greeting)], ready(wire.PUB)...),
		"bad frame": append(append(greeting[:len(greeting):len(greeting)], ready(wire.PULL)...),
			0xff, 0),
		"ERROR": append(greeting[:len(greeting):len(greeting)],
			wire.AppendError(nil, "400")...),
		"empty command": append(append(greeting[:len(greeting):len(greeting)], ready(wire.PULL)...),
			4, 0),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *zmtptest.Network) {
				var a attempts
				a.network.Buffer = 200
				l := listenRaw(t, &a.network, addr)
				push := NewPush(Config{Dial: a.dial}, PushOptions{})
				defer closeNow(t, push)
				push.Connect("tcp://" + addr)
				for range 10 {
					if err := push.TrySend(NewMessage(make([]byte, 1000))); err != nil {
						t.Fatal(err)
					}
				}
				r := acceptRaw(t, l)
				r.Send(in)
				synctest.Wait()
				time.Sleep(time.Hour)
				if n := a.count(); n != 1 {
					t.Errorf("%d attempts", n)
				}
				st := push.Stats()
				if got := st.Dropped[DropClosed] + st.Dropped[DropConnectionLost]; got != 10 {
					t.Errorf("dropped %v, want 10", st.Dropped)
				}
				if err := push.TrySend(NewMessageString("m")); err != ErrWouldBlock {
					t.Errorf("sending to nobody: %v", err)
				}
				if err := push.Disconnect("tcp://" + addr); !errors.Is(err, ErrNoEndpoint) {
					t.Errorf("the endpoint is still there: %v", err)
				}
			})
		})
	}
}

func TestSecondConnect(t *testing.T) {
	for typ, want := range map[wire.SocketType]int{
		wire.PUB: 1, wire.SUB: 1, wire.XPUB: 2, wire.XSUB: 2, wire.PUSH: 2, wire.PULL: 2,
		wire.REQ: 1, wire.REP: 2, wire.DEALER: 1, wire.ROUTER: 2,
	} {
		t.Run(string(typ), func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *zmtptest.Network) {
				var a attempts
				listenRaw(t, &a.network, addr)
				s := openType(typ, Config{Dial: a.dial})
				defer closeNow(t, s.Socket)
				for range 2 {
					if err := s.Connect("tcp://" + addr); err != nil {
						t.Fatal(err)
					}
				}
				if n := a.count(); n != want {
					t.Errorf("%d connections, want %d", n, want)
				}
				// A disconnected endpoint can be connected again.
				for range want {
					if err := s.Disconnect("tcp://" + addr); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Disconnect("tcp://" + addr); !errors.Is(err, ErrNoEndpoint) {
					t.Errorf("one more Disconnect: %v", err)
				}
				s.Connect("tcp://" + addr)
				if n := a.count(); n != want+1 {
					t.Errorf("%d connections, want %d", n, want+1)
				}
			})
		})
	}
}

// Neither Close nor Disconnect waits for a peer that is silent in its handshake.
func TestEndDuringHandshake(t *testing.T) {
	for name, end := range map[string]func(*Sub) error{
		"Shutdown":   func(s *Sub) error { return s.Shutdown(context.Background()) },
		"Close":      func(s *Sub) error { return s.Close() },
		"Disconnect": func(s *Sub) error { return s.Disconnect("tcp://" + addr) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				l := listenRaw(t, n, addr)
				sub := NewSub(inMemory(n, Config{}))
				defer closeNow(t, sub)
				sub.Connect("tcp://" + addr)
				r := acceptRaw(t, l)
				r.Expect(signature())
				if d := elapsed(func() {
					if err := end(sub); err != nil {
						t.Error(err)
					}
					r.ExpectClose()
				}); d != 0 {
					t.Errorf("took %v", d)
				}
				synctest.Wait()
				if st := sub.Stats(); st.HandshakeFailures[wire.LocalClose] != 1 {
					t.Errorf("failures %v", st.HandshakeFailures)
				}
			})
		})
	}
}

// A publisher that connects, or connects again, gets every topic once, before anything else.
func TestResubscription(t *testing.T) {
	for _, typ := range []wire.SocketType{wire.SUB, wire.XSUB} {
		t.Run(string(typ), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				l := listenRaw(t, n, addr)
				s := newVectorSocket(typ, inMemory(n, Config{SendHWM: 1}), false)
				defer closeNow(t, s.Socket)
				want := map[string]bool{}
				for i := range 500 { // more than any high-water mark
					topic := string([]byte{'t', byte(i >> 8), byte(i)})
					s.act("subscribe", []byte(topic))
					s.act("subscribe", []byte(topic))
					if i%5 == 0 {
						s.act("unsubscribe", []byte(topic))
						s.act("unsubscribe", []byte(topic))
						continue
					}
					want[topic] = true
				}
				s.Connect("tcp://" + addr)
				for range 3 {
					r := acceptRaw(t, l)
					r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUB)...))
					r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(typ)...))
					got := map[string]bool{}
					for range want {
						flags, body := r.ReadFrame()
						name, topic, err := wire.ParseCommand(body)
						if flags != byte(wire.Command) || err != nil ||
							string(name) != wire.CmdSubscribe || got[string(topic)] {
							t.Fatalf("%d %q %v", flags, body, err)
						}
						got[string(topic)] = want[string(topic)]
					}
					for topic, ok := range got {
						if !ok {
							t.Errorf("%q was not subscribed", topic)
						}
					}
					alive(r)
					r.Conn.Close()
				}
			})
		})
	}
}

// An endpoint is given up after those failures that Config names, and after the first connection
// with a negative interval; else it is tried again (libzmq, test_reconnect_ivl and
// test_reconnect_options).
func TestReconnectStop(t *testing.T) {
	refused, failed, lost := "refused", "handshake fails", "lost"
	for name, c := range map[string]struct {
		cfg  Config
		ends []string
	}{
		"default":            {Config{}, nil},
		"never":              {Config{ReconnectInterval: -1}, []string{refused, failed, lost}},
		"stop when refused":  {Config{ReconnectStop: StopConnRefused}, []string{refused}},
		"stop when it fails": {Config{ReconnectStop: StopHandshakeFailed}, []string{failed}},
		"stop after both": {Config{ReconnectStop: StopConnRefused | StopHandshakeFailed},
			[]string{refused, failed}},
	} {
		for _, failure := range []string{refused, failed, lost} {
			t.Run(name+"/"+failure, func(t *testing.T) {
				bubble(t, func(t *testing.T, n *zmtptest.Network) {
					push := NewPush(inMemory(n, c.cfg), PushOptions{})
					defer closeNow(t, push)
					monitor := push.Monitor(10000)
					var l net.Listener
					if failure != refused {
						l = listenRaw(t, n, addr)
					}
					if err := push.Connect("tcp://" + addr); err != nil {
						t.Fatal(err)
					}
					if failure != refused {
						r := acceptRaw(t, l)
						if failure == lost {
							shake(r, wire.PULL, wire.PUSH)
							synctest.Wait()
						}
						l.Close()
						r.Conn.Close()
					}
					synctest.Wait()
					ends := slices.Contains(c.ends, failure)
					time.Sleep(time.Hour)
					synctest.Wait()
					all := types(events(monitor))
					retried := slices.Contains(all, EventConnectRetried)
					if retried == ends {
						t.Errorf("tried again: %v; events %v", retried, all)
					}
					if left := len(push.Endpoints()); ends && left != 0 {
						t.Errorf("%d endpoints are left", left)
					}
				})
			})
		}
	}
}
