package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// puller accepts a connection of a Push as a raw PULL.
func puller(t *testing.T, l net.Listener) *zmtptest.Raw {
	t.Helper()
	r := acceptRaw(t, l)
	r.Send(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PULL)...))
	r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PUSH)...))
	return r
}

// Messages go round robin to endpoints from Connect on, also to one without a listener.
func TestPushBeforeAnybodyListens(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{}), PushOptions{})
		defer closeNow(t, push)
		l := listenRaw(t, n, "a:1")
		for _, e := range []string{"tcp://a:1", "tcp://b:1"} {
			if err := push.Connect(e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := push.TrySend(NewMessageString(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		r := puller(t, l)
		for i := range 5 {
			r.Expect(frame(fmt.Sprint(2 * i)))
		}
		r = puller(t, listenRaw(t, n, "b:1"))
		for i := range 5 {
			r.Expect(frame(fmt.Sprint(2*i + 1)))
		}
	})
}

// With Immediate only peers with a complete handshake take part. Messages for a lost peer go to
// another peer, before any other message.
func TestPushImmediate(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		// smaller than each of the ten messages below: none of them can be written whole
		n.Buffer = 100
		push := NewPush(inMemory(n, Config{}), PushOptions{Immediate: true})
		defer closeNow(t, push)
		push.Connect("tcp://a:1")
		push.Connect("tcp://b:1")
		synctest.Wait()
		if err := push.TrySend(NewMessageString("m")); err != ErrWouldBlock {
			t.Errorf("sending to nobody: %v", err)
		}
		sent := make(chan error)
		go func() { sent <- push.Send(t.Context(), NewMessageString("first")) }()
		r := puller(t, listenRaw(t, n, "a:1"))
		if err := <-sent; err != nil {
			t.Error(err)
		}
		r.Expect(frame("first"))
		for range 10 {
			if err := push.TrySend(NewMessage(make([]byte, 200))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		r.Conn.Close()
		synctest.Wait()
		if err := push.TrySend(NewMessageString("m")); err != ErrWouldBlock {
			t.Errorf("sending to nobody: %v", err)
		}
		// One message was being written, but not whole: no peer can have received it.
		if n, bytes := push.Returned(); n != 10 || bytes != 10*202 {
			t.Errorf("%d messages of %d bytes came back", n, bytes)
		}
		go func() { sent <- push.Send(t.Context(), NewMessageString("last")) }()
		r = puller(t, listenRaw(t, n, "b:1"))
		for range 10 {
			r.Expect(wire.AppendFrame(nil, 0, make([]byte, 200)))
		}
		r.Expect(frame("last"))
		if err := <-sent; err != nil {
			t.Error(err)
		}
		st := push.Stats()
		if st.Dropped[DropConnectionLost] != 0 || st.Out.Messages != 22 || st.Returned != 10 {
			t.Errorf("dropped %v, sent %d with %d returned", st.Dropped, st.Out.Messages,
				st.Returned)
		}
	})
}

// Messages that wait for an endpoint survive a lost connection. Messages that were being written
// are lost and counted. None arrives twice or in pieces.
func TestPushQueueSurvivesTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 1000
		l := listenRaw(t, n, addr)
		push := NewPush(inMemory(n, Config{HeartbeatInterval: time.Hour}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		message := func(i int) string { return fmt.Sprintf("%05d%195d", i, 0) }
		const count = 900 // several chunks, and several writes
		for i := range count {
			if err := push.TrySend(NewMessageString(message(i))); err != nil {
				t.Fatal(err)
			}
		}
		next, lost := 0, 0
		for range 5 {
			r := puller(t, l)
			for range 20 {
				flags, body := r.ReadFrame()
				var i int
				fmt.Sscanf(string(body[:5]), "%d", &i)
				if flags != 0 || string(body) != message(i) || i < next {
					t.Fatalf("message %d after %d: %q", i, next-1, body)
				}
				lost += i - next
				next = i + 1
			}
			synctest.Wait()
			r.Conn.(*zmtptest.Conn).Cut()
		}
		r := puller(t, l)
		for next < count {
			_, body := r.ReadFrame()
			var i int
			fmt.Sscanf(string(body[:5]), "%d", &i)
			if string(body) != message(i) || i < next {
				t.Fatalf("message %d after %d: %q", i, next-1, body)
			}
			lost += i - next
			next = i + 1
		}
		alive(r)
		st := push.Stats()
		// The messages that were read before the connection broke were being written too, and may
		// be counted.
		if got := int(st.Dropped[DropConnectionLost]); got < lost || got > lost+100 {
			t.Errorf("%d counted as lost, %d were", got, lost)
		}
		if lost == 0 || lost > 5*20 {
			t.Errorf("%d lost, at most what fits the connection may be", lost)
		}
		if st.Out.Messages != count {
			t.Errorf("sent %d", st.Out.Messages)
		}
	})
}

// Commands belong to their connection.
func TestNoPongOfAnOlderConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 64
		l := listenRaw(t, n, addr)
		push := NewPush(inMemory(n, Config{}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		r := puller(t, l)
		r.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		for range 1000 { // until it is read no more
			if _, err := r.Conn.Write(wire.AppendCommand(nil, wire.CmdPing,
				[]byte("\x00\x00of the older one"))); err != nil {
				break
			}
		}
		r.Conn.(*zmtptest.Conn).Cut()
		alive(puller(t, l))
	})
}

// Peers whose queues are full are skipped. A sender that waits goes on when one of the queues has
// drained to half.
func TestPushSkipsFullPeers(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 150
		push := NewPush(inMemory(n, Config{SendHWM: 4}), PushOptions{})
		defer closeNow(t, push)
		bind(t, n, push.Socket, addr)
		slow := dialRaw(t, n, addr)
		shake(slow, wire.PULL, wire.PUSH)
		fast := dialRaw(t, n, addr)
		shake(fast, wire.PULL, wire.PUSH)
		synctest.Wait()
		message := func(i int) string { return fmt.Sprintf("%099d", i) }
		sent := 0
		fill := func() {
			for {
				err := push.TrySend(NewMessageString(message(sent)))
				if err == ErrWouldBlock {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				sent++
				synctest.Wait()
			}
		}
		fill()
		if sent < 8 {
			t.Fatalf("%d messages sent", sent)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- push.Send(t.Context(), NewMessageString(message(sent))) }()
		synctest.Wait()
		var got []string
		for len(waiting) == 0 {
			_, body := fast.ReadFrame()
			got = append(got, string(body))
			synctest.Wait()
		}
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if len(got) < 3 {
			t.Errorf("woken when %d of 4 messages were read", len(got))
		}
		if !slices.IsSorted(got) {
			t.Errorf("out of order: %q", got)
		}
		sent++
		fill()
		for range sent - len(got) - 5 { // all that is not for the slow one
			if st := push.Peers(); len(st) != 2 {
				t.Fatal(st)
			}
			if fast.Conn.(*zmtptest.Conn).Buffered() == 0 {
				break
			}
			fast.ReadFrame()
			synctest.Wait()
		}
	})
}

// Send waits for the first peer, and ends with its context or with the socket.
func TestPushSendWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(Config{}, PushOptions{})
		cause := errors.New("the cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if d := elapsed(func() {
			if err := push.Send(ctx, NewMessageString("m")); err != cause {
				t.Errorf("error %v", err)
			}
		}); d != time.Second {
			t.Errorf("waited %v", d)
		}
		time.AfterFunc(time.Second, func() { closeNow(t, push) })
		if err := push.Send(t.Context(), NewMessageString("m")); err != ErrClosed {
			t.Errorf("error %v", err)
		}
		if err := push.TrySend(NewMessageString("m")); err != ErrClosed {
			t.Errorf("error %v", err)
		}
		if err := push.Connect("tcp://" + addr); err != ErrClosed {
			t.Errorf("error %v", err)
		}
		if err := push.TrySend(Message{}); err != ErrMessage {
			t.Errorf("error %v", err)
		}
	})
}
