package zmtp

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// numbered returns "from" to "to-1".
func numbered(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// When receive limits change, queued messages are neither lost nor reordered.
func TestReconfigureReceiveLimits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{RecvHWM: 10})
		defer closeNow(t, pull)
		for _, text := range numbered(0, 500) {
			r.Send(frame(text))
		}
		waits := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if st := pull.Stats(); st.RecvQueued != want {
				t.Errorf("%s: %d messages wait, want %d", what, st.RecvQueued, want)
			}
		}
		waits("at first", 10)
		pull.Reconfigure(Config{RecvHWM: 100})
		waits("raised", 100)
		pull.Reconfigure(Config{RecvHWM: 3, RecvBytes: -1})
		waits("lowered", 100)
		var got []string
		for range 99 {
			m, err := pull.TryRecv()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, text(m))
		}
		waits("lowered, and nearly all received", 3) // and not what would make it a hundred again
		pull.Reconfigure(Config{RecvHWM: -1, RecvBytes: -1})
		waits("without a limit", 401)
		if got = append(got, received(t, pull)...); !slices.Equal(got, numbered(0, 500)) {
			t.Errorf("received %d messages, or in another order: %.20q", len(got), got)
		}
	})
}

// Waiting senders go on when the limit is raised, with and without a connection. Queued messages
// above a lowered limit are sent nevertheless.
func TestReconfigureSendLimits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{SendHWM: 2}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		sent := 0
		go func() {
			for push.Send(t.Context(), NewMessageString(fmt.Sprint(sent))) == nil {
				sent++
			}
		}()
		waits := func(what string, want int) {
			t.Helper()
			if synctest.Wait(); sent != want {
				t.Errorf("%s: %d messages were taken, want %d", what, sent, want)
			}
		}
		waits("at first", 2)
		push.Reconfigure(Config{SendHWM: 20})
		waits("raised", 20)
		push.Reconfigure(Config{SendHWM: 1})
		waits("lowered", 20)
		push.Connect("tcp://127.0.0.1:1") // nobody is there: a queue of 1
		waits("another endpoint", 21)
		push.Disconnect("tcp://127.0.0.1:1")
		l := listenRaw(t, n, addr)
		r := acceptRaw(t, l)
		shake(r, wire.PULL, wire.PUSH)
		for i := range 100 {
			if i == 20 {
				continue // went to the endpoint that was given up
			}
			if _, body := r.ReadFrame(); string(body) != fmt.Sprint(i) {
				t.Fatalf("received %q, want %d", body, i)
			}
		}
	})
}

// A NoDrop publisher that waits for a subscriber tries again when the subscriber's limit is raised.
func TestReconfigureWakesNoDrop(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 1 << 10
		xpub := NewXPub(Config{SendHWM: 1}, XPubOptions{NoDrop: true})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.SUB, wire.XPUB)
		r.Send(subscribe(""))
		synctest.Wait()
		sent := 0
		go func() {
			for xpub.Send(t.Context(), NewMessage(make([]byte, 10_000))) == nil {
				sent++
			}
		}()
		synctest.Wait()
		before := sent
		xpub.Reconfigure(Config{SendHWM: 11})
		synctest.Wait()
		if sent != before+10 {
			t.Errorf("%d messages, then %d, want 10 more", before, sent)
		}
	})
}

// Heartbeats begin, change and end on an existing connection.
func TestReconfigureHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{})
		defer closeNow(t, pull)
		r.Timeout = time.Hour
		r.ExpectSilence(time.Minute)
		answer := func(ping []byte, after time.Duration) {
			t.Helper()
			if d := elapsed(func() { r.Expect(ping) }); d != after {
				t.Errorf("PING after %v, want %v", d, after)
			}
			r.Send(wire.AppendPong(nil, nil))
		}
		pull.Reconfigure(Config{HeartbeatInterval: time.Second})
		answer(wire.AppendPing(nil, 0), time.Second)
		answer(wire.AppendPing(nil, 0), time.Second)
		pull.Reconfigure(Config{HeartbeatInterval: 5 * time.Second, HeartbeatTimeout: time.Second,
			HeartbeatTTL: 10 * time.Second})
		answer(wire.AppendPing(nil, 100), 5*time.Second)
		time.Sleep(time.Second)
		pull.Reconfigure(Config{HeartbeatInterval: 5 * time.Second, HeartbeatTimeout: time.Second,
			HeartbeatTTL: 10 * time.Second, RecvHWM: 7})
		answer(wire.AppendPing(nil, 100), 4*time.Second) // nothing that concerns it has changed
		pull.Reconfigure(Config{})
		r.ExpectSilence(time.Minute)
		pull.Reconfigure(Config{HeartbeatInterval: time.Second})
		r.Expect(wire.AppendPing(nil, 0))
		r.Conn.SetReadDeadline(time.Time{})
		if d := elapsed(func() { io.Copy(io.Discard, r.Conn) }); d != time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// A connection keeps the configuration that it was made with.
func TestReconfigureNewConnections(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, old := listening(t, n, Config{})
		defer closeNow(t, pull)
		pull.Reconfigure(Config{MaxMessageSize: 100, HandshakeTimeout: time.Second})
		old.Send(frame(string(make([]byte, 101))))
		r := dialRaw(t, n, addr)
		shake(r, wire.PUSH, wire.PULL)
		r.Send(frame(string(make([]byte, 101))))
		r.ExpectClose()
		slow := dialRaw(t, n, addr)
		slow.Timeout = time.Minute
		slow.Expect(signature())
		if d := elapsed(slow.ExpectClose); d != time.Second {
			t.Errorf("a handshake ended after %v", d)
		}
		alive(old)
		if got := received(t, pull); len(got) != 1 {
			t.Errorf("%d messages, want that of the old connection", len(got))
		}
	})
}
