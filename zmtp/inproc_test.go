package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/zmtptest"
)

// Messages go over inproc in both orders of Listen and Connect, whole and of all sizes, and those
// that were queued survive a new listener (libzmq, test_inproc_connect).
func TestInproc(t *testing.T) {
	for _, connectFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("connect first=%v", connectFirst), func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *zmtptest.Network) {
				endpoint := "inproc://" + t.Name()
				push := NewPush(Config{}, PushOptions{})
				connect := func() {
					if err := push.Connect(endpoint); err != nil {
						t.Fatal(err)
					}
				}
				if connectFirst {
					connect()
					mustSend(t, push, "early")
					time.Sleep(time.Hour)
				}
				listen := func() *Pull {
					pull := NewPull(Config{})
					if bound, err := pull.Listen(endpoint); err != nil || bound != endpoint {
						t.Fatal(bound, err)
					}
					return pull
				}
				pull := listen()
				if connectFirst {
					mustRecv(t, pull, "early")
				} else {
					connect()
				}
				for _, size := range []int{0, 1, 255, 256, 70_000, 3 << 20} {
					body := bytes.Repeat([]byte{byte(size)}, size)
					if err := push.Send(t.Context(), NewMessage(body, body)); err != nil {
						t.Fatal(err)
					}
					m, err := pull.Recv(t.Context())
					if err != nil || m.NumParts() != 2 || !bytes.Equal(m.Part(1), body) {
						t.Fatalf("%d bytes: %d parts, %v", size, m.NumParts(), err)
					}
				}
				if _, err := NewPull(Config{}).Listen(endpoint); !errors.Is(err,
					syscall.EADDRINUSE) {
					t.Errorf("a name was bound twice: %v", err)
				}
				closeNow(t, pull)
				synctest.Wait()
				mustSend(t, push, "to the next")
				pull = listen()
				mustRecv(t, pull, "to the next")
				if err := push.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				closeNow(t, pull)
			})
		})
	}
}

// A reader that does not receive holds the sender up over inproc as over tcp; nothing is lost, and
// Shutdown delivers what waits.
func TestInprocHWM(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := NewPush(Config{SendHWM: 10}, PushOptions{}), NewPull(Config{RecvHWM: 10})
		defer closeNow(t, pull)
		if _, err := pull.Listen("inproc://hwm"); err != nil {
			t.Fatal(err)
		}
		if err := push.Connect("inproc://hwm"); err != nil {
			t.Fatal(err)
		}
		body, sent := strings.Repeat("x", 10_000), 0
		for {
			synctest.Wait()
			if push.TrySend(message(fmt.Sprint(sent), body)) != nil {
				break
			}
			sent++
		}
		if sent < 20 || sent > 60 {
			t.Errorf("%d messages of 10 kB fit two queues of 10", sent)
		}
		done := make(chan error)
		go func() { done <- push.Shutdown(context.Background()) }()
		for i := range sent {
			m, err := pull.Recv(t.Context())
			if err != nil || string(m.Part(0)) != fmt.Sprint(i) {
				t.Fatalf("message %d: %.10q, %v", i, text(m), err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Types are compared and mechanisms agreed on over inproc, and a subscriber that is closed is
// noticed (libzmq, test_disconnect_inproc).
func TestInprocHandshake(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		xpub := NewXPub(Config{}, XPubOptions{})
		defer closeNow(t, xpub)
		if _, err := xpub.Listen("inproc://pub"); err != nil {
			t.Fatal(err)
		}
		wrong := NewPull(Config{})
		defer closeNow(t, wrong)
		client := PlainClient{User: "u"}
		plain := NewSub(Config{Mechanism: client.Mechanism})
		defer closeNow(t, plain)
		for _, s := range []*Socket{wrong.Socket, plain.Socket} {
			if err := s.Connect("inproc://pub"); err != nil {
				t.Fatal(err)
			}
		}
		sub := NewSub(Config{})
		if err := errors.Join(sub.Subscribe("a"), sub.Connect("inproc://pub")); err != nil {
			t.Fatal(err)
		}
		mustRecv(t, xpub, "\x01a")
		mustSend(t, xpub, "abc", "body")
		mustRecv(t, sub, "abc,body")
		closeNow(t, sub)
		mustRecv(t, xpub, "\x00a")
		time.Sleep(time.Minute)
		failures := fmt.Sprint(xpub.Stats().HandshakeFailures)
		if failures != "map[mechanism_mismatch:1 socket_type_mismatch:1]" {
			t.Errorf("handshakes failed: %s", failures)
		}
		for _, endpoint := range []string{"inproc://", "inproc:"} {
			if err := sub.Connect(endpoint); !errors.Is(err, ErrEndpoint) {
				t.Errorf("%q: %v", endpoint, err)
			}
		}
	})
}
