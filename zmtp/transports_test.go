package zmtp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// endpoints are endpoints to listen on, by transport.
func endpoints(t *testing.T) map[string]string {
	dir, err := os.MkdirTemp("", "zmq-") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return map[string]string{"tcp": "tcp://127.0.0.1:*", "inproc": "inproc://" + t.Name(),
		"ipc": "ipc://" + filepath.Join(dir, "socket")}
}

// Every pair of types talks over each transport, with either end listening, and goes on when an
// endpoint is unbound and bound again (libzmq, test_reqrep_*, test_pair_*, test_rebind_ipc,
// test_inproc_connect).
func TestTransports(t *testing.T) {
	for typ, k := range kinds() {
		if k.last == 1 && typ != k.peer {
			continue // the other one of the two has begun
		}
		for transport, endpoint := range endpoints(t) {
			for _, listens := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s-%s/%s/%v", typ, k.peer, transport, listens),
					func(t *testing.T) {
						a, b := openType(typ, quick), openType(k.peer, quick)
						defer closeNow(t, a.Socket)
						defer closeNow(t, b.Socket)
						if b.subscribe != nil {
							for i := range 999 {
								if err := b.subscribe(fmt.Append(nil, "topic", i)); err != nil {
									t.Fatal(err)
								}
							}
						}
						listener, connecter := a, b
						if !listens {
							listener, connecter = b, a
						}
						bound, err := listener.Listen(endpoint)
						if err != nil {
							t.Fatal(err)
						}
						if err := connecter.Connect(bound); err != nil {
							t.Fatal(err)
						}
						converse(t, a, b, typ)
						if err := listener.Unbind(bound); err != nil {
							t.Fatal(err)
						}
						testkit.Eventually(t, "the end of the connection",
							func() bool { return connecter.Stats().Peers == 0 })
						if again, err := listener.Listen(bound); err != nil || again != bound {
							t.Fatal(again, err)
						}
						converse(t, a, b, typ)
					})
			}
		}
	}
}

// quick makes connections come back soon.
var quick = Config{ReconnectInterval: 1e6, ReconnectMax: 1e7}

// converse sends messages from a, of type typ, to b, and back if both can.
func converse(t *testing.T, a, b *vectorSocket, typ wire.SocketType) {
	t.Helper()
	testkit.Eventually(t, "the connection",
		func() bool { return a.Stats().Peers == 1 && b.Stats().Peers == 1 })
	publishes := typ == wire.PUB || typ == wire.XPUB || typ == wire.RADIO
	for _, size := range []int{0, 1, 255, 256, 65536} {
		parts := []string{testkit.Pattern(size)}
		if publishes {
			parts = []string{"topic998", parts[0]}
		}
		got := pass(t, a, b, NewMessageString(parts...), publishes)
		if b.local == wire.ROUTER {
			_, got = got.CutPart()
		}
		if want := NewMessageString(parts...); !bytes.Equal(got.Wire(), want.Wire()) {
			t.Fatalf("%d bytes: got %.60q", size, text(got))
		}
		if a.recv == nil || b.sendTo == nil || publishes {
			continue
		}
		reply := got
		if b.local == wire.ROUTER {
			id := one(t, b.Socket).Value.(*route[string]).id
			reply = NewMessageString(id, parts[0])
		}
		if got := pass(t, b, a, reply, false); text(got) != parts[0] {
			t.Fatalf("back, %d bytes: got %.60q", size, text(got))
		}
	}
}

// pass sends m from a to b, and returns what b receives. A publisher sends it until b receives it,
// since nothing tells when it has taken a subscription.
func pass(t *testing.T, a, b *vectorSocket, m Message, publishes bool) (got Message) {
	t.Helper()
	sent := false
	testkit.Eventually(t, "the message", func() bool {
		if !sent || publishes {
			err := a.sendTo(m)
			if err != nil && err != ErrWouldBlock {
				t.Fatal(err)
			}
			sent = sent || err == nil
		}
		var err error
		if got, err = b.recv(); err != nil && err != ErrWouldBlock {
			t.Fatal(err)
		}
		if publishes && err == nil && !bytes.Equal(got.Wire(), m.Wire()) {
			return false // the last one, once more
		}
		return err == nil
	})
	return got
}

// An endpoint that was bound with a wildcard is unbound by its real name, and may be bound again
// (libzmq, test_unbind_wildcard).
func TestUnbindWildcard(t *testing.T) {
	for _, wildcard := range []string{"tcp://*:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0",
		"tcp://[::1]:*", "ipc://*"} {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bound, err := pull.Listen(wildcard)
		if err != nil {
			t.Fatal(err)
		}
		if err := pull.Unbind(wildcard); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("Unbind(%q): %v", wildcard, err)
		}
		if err := pull.Unbind(bound); err != nil {
			t.Errorf("Unbind(%q): %v", bound, err)
		}
		if wildcard == "ipc://*" {
			continue // its folder is gone
		}
		if again, err := pull.Listen(bound); err != nil || again != bound {
			t.Errorf("Listen(%q): %q, %v", bound, again, err)
		}
	}
}

// Thousands of sockets exist at the same time, some of them connected, and leave nothing behind
// (libzmq, test_many_sockets).
func TestManySockets(t *testing.T) {
	before := runtime.NumGoroutine()
	var all []*Socket
	for i := range 5000 {
		pull := NewPull(Config{})
		all = append(all, pull.Socket)
		if i%20 > 0 {
			continue
		}
		endpoint := fmt.Sprintf("inproc://%s/%d", t.Name(), i)
		push := NewPush(Config{})
		all = append(all, push.Socket)
		if _, err := pull.Listen(endpoint); err != nil {
			t.Fatal(err)
		}
		if err := push.Connect(endpoint); err != nil {
			t.Fatal(err)
		}
		mustSend(t, push, "m")
		mustRecv(t, pull, "m")
	}
	for _, s := range all {
		closeNow(t, s)
	}
	testkit.Eventually(t, "the end of all goroutines",
		func() bool { return runtime.NumGoroutine() <= before })
}

// Application properties have names that begin with X-, of the characters and the length that RFC
// 37 allows (libzmq, test_app_meta).
func TestApplicationProperties(t *testing.T) {
	for name, ok := range map[string]bool{
		"X-a": true, "X-": true, "X-A-b_c.d+1": true, "X-" + strings.Repeat("n", 253): true,
		"": false, "a": false, "x-a": false, "Socket-Type": false, "X-a b": false, "X-\x00": false,
		"X-" + strings.Repeat("n", 254): false, "X-ü": false,
	} {
		pull := NewPull(Config{Metadata: Metadata{{Name: name, Value: []byte("v")}}})
		_, err := pull.Listen("inproc://" + t.Name())
		if (err == nil) != ok {
			t.Errorf("%.20q: %v", name, err)
		}
		closeNow(t, pull)
	}
}
