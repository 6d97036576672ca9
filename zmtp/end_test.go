package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// dialTCP connects a raw peer of type typ to s over TCP and plays the handshake. With small, s
// gives it a small receive buffer.
func dialTCP(t *testing.T, s *Socket, typ wire.SocketType) *zmtptest.Raw {
	t.Helper()
	bound, err := s.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", bound[len("tcp://"):])
	if err != nil {
		t.Fatal(err)
	}
	r := zmtptest.NewRaw(t, conn)
	shake(r, typ, s.Type())
	return r
}

// wait calls ok until it returns true.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not come about: ", what)
		}
	}
}

// sendAndClose sends n numbered messages, with a PING in front of each if pings is set, and closes
// the connection.
func sendAndClose(t *testing.T, r *zmtptest.Raw, n int, pings bool) {
	t.Helper()
	var b []byte
	for i := range n {
		if pings {
			b = wire.AppendPing(b, 0)
		}
		b = append(b, frame(fmt.Sprintf("%06d%1000d", i, 0))...)
	}
	r.Send(b)
	r.Conn.Close()
}

// expectAll receives n numbered messages.
func expectAll(t *testing.T, recv func(context.Context) (Message, error), n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range n {
		m, err := recv(ctx)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", i, n, err)
		}
		if want := fmt.Sprintf("%06d", i); string(m.Part(0)[:6]) != want {
			t.Fatalf("message %.6q, want %q", m.Part(0), want)
		}
	}
}

// Everything that a peer sent before it closed its connection is received, whatever this side
// writes meanwhile.
func TestDataOfAClosedPeerIsReceived(t *testing.T) {
	const count = 300
	t.Run("a message provokes a reset", func(t *testing.T) {
		xpub := NewXPub(Config{RecvHWM: 1}, XPubOptions{})
		defer closeNow(t, xpub)
		r := dialTCP(t, xpub.Socket, wire.SUB)
		r.Send(subscribe(""))
		if m, err := xpub.Recv(t.Context()); err != nil || text(m) != "\x01" {
			t.Fatal(text(m), err)
		}
		p := one(t, xpub.Socket)
		const count = 40 // the reset throws away what is not in this side's kernel
		sendAndClose(t, r, count, false)
		wait(t, "a failed write", func() bool {
			p.OfferMessage(NewMessageString("to nobody"))
			select {
			case <-p.Done():
				return true
			default:
				return false
			}
		})
		expectAll(t, xpub.Recv, count)
		wait(t, "the end of the peer", func() bool { return xpub.Stats().Peers == 0 })
	})
	t.Run("heartbeats while it is held up", func(t *testing.T) {
		pull := NewPull(Config{RecvHWM: 1, RecvBuffer: 32 << 10})
		defer closeNow(t, pull)
		r := dialTCP(t, pull.Socket, wire.PUSH)
		sendAndClose(t, r, count, false)
		pull.Reconfigure(Config{RecvHWM: 1, HeartbeatInterval: time.Millisecond,
			HeartbeatTimeout: time.Minute})
		time.Sleep(50 * time.Millisecond) // for PINGs that must not be sent
		expectAll(t, pull.Recv, count)
	})
	t.Run("its own heartbeats", func(t *testing.T) {
		pull := NewPull(Config{RecvHWM: 1, RecvBuffer: 32 << 10})
		defer closeNow(t, pull)
		r := dialTCP(t, pull.Socket, wire.PUSH)
		sendAndClose(t, r, count, true)
		expectAll(t, func(ctx context.Context) (Message, error) {
			time.Sleep(time.Millisecond) // for PONGs that must not be sent
			return pull.Recv(ctx)
		}, count)
	})
	t.Run("a subscription while it is held up", func(t *testing.T) {
		xsub := NewXSub(Config{RecvHWM: 1, RecvBuffer: 32 << 10})
		defer closeNow(t, xsub)
		r := dialTCP(t, xsub.Socket, wire.PUB)
		sendAndClose(t, r, count, false)
		expectAll(t, func(ctx context.Context) (Message, error) {
			xsub.Subscribe("topic")
			time.Sleep(time.Millisecond)
			return xsub.Recv(ctx)
		}, count)
	})
}

// A delayed PING is sent once the peer is read again.
func TestHeldBackIsSentLater(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xsub := NewXSub(Config{RecvHWM: 1})
		defer closeNow(t, xsub)
		bind(t, n, xsub.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PUB, wire.XSUB)
		r.Send(append(frame("1"), frame("2")...))
		synctest.Wait()
		xsub.Subscribe("topic")
		r.ExpectSilence(maxHold / 2)
		for _, want := range []string{"1", "2"} {
			if m, err := xsub.Recv(t.Context()); err != nil || text(m) != want {
				t.Fatal(text(m), err)
			}
		}
		r.Expect(subscribe("topic"))
	})
}

// Shutdown waits for the host of a peer that reads slowly: after a close its PING would be answered
// with RST.
func TestShutdownWaitsForTheHost(t *testing.T) {
	push := NewPush(Config{SendBuffer: 1 << 20}, PushOptions{})
	r := dialTCP(t, push.Socket, wire.PULL)
	r.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	const count = 30
	var want []byte
	for i := range count {
		m := frame(fmt.Sprintf("%06d%30000d", i, 0))
		want = append(want, m...)
		if err := push.Send(t.Context(), Message{wire: m}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "that the kernel has all", func() bool {
		_, _, n := one(t,
			push.Socket).Queue()
		return n >= uint64(len(want))
	})
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done <- push.Shutdown(ctx)
	}()
	select {
	case err := <-done:
		t.Fatal("Shutdown has returned before the peer has read anything: ", err)
	case <-time.After(600 * time.Millisecond): // longer than a wait for silence was once
	}
	r.Send(wire.AppendPing(nil, 0))
	r.Conn.SetReadDeadline(time.Now().Add(time.Minute))
	if got, err := io.ReadAll(r.Conn); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
	r.Conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// When its context ends first, Shutdown returns how much was not delivered.
func TestShutdownCountsWhatIsLeft(t *testing.T) {
	push := NewPush(Config{SendBuffer: 64 << 10}, PushOptions{})
	dialTCP(t, push.Socket, wire.PULL)
	sent := uint64(0)
	for m := NewMessage(make([]byte, 100<<10)); sent < 200; sent++ {
		if err := push.Send(t.Context(), m); err != nil { // the first waits for the peer
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := push.Shutdown(ctx)
	e, ok := errors.AsType[*LingerError](err)
	if !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if e.Dropped == 0 || e.Dropped > sent || e.Unacknowledged == 0 {
		t.Errorf("%d messages sent, %v", sent, e)
	}
}

// late is a connection whose reads begin late, like those of a goroutine that gets no processor.
type late struct{ *zmtptest.Conn }

func (c late) Read(b []byte) (int, error) {
	time.Sleep(time.Minute)
	return c.Conn.Read(b)
}

type lateListener struct{ net.Listener }

func (l lateListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return late{conn.(*zmtptest.Conn)}, nil
}

// Shutdown reads everything that has arrived, however late the read loop runs.
func TestShutdownReadsLate(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{HandshakeTimeout: time.Hour})
		l, err := n.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pull.Serve(lateListener{l}); err != nil {
			t.Fatal(err)
		}
		r := dialRaw(t, n, addr)
		r.Timeout = time.Hour
		shake(r, wire.PUSH, wire.PULL)
		time.Sleep(10 * time.Minute)
		const count = 100
		for i := range count {
			r.Send(frame(fmt.Sprintf("%06d%2000d", i, 0)))
		}
		shutdown0(t, pull, 10*time.Hour)
		expectAll(t, pull.Recv, count)
	})
}

// Shutdown also reads a connection whose handshake only the peer has completed.
func TestShutdownDuringTheHandshake(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		bind(t, n, pull.Socket, addr)
		stranger := dialRaw(t, n, addr)
		r := dialRaw(t, n, addr)
		r.Send(wire.AppendGreeting(nil, "NULL", false))
		r.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(wire.PULL)...))
		done := make(chan struct{})
		go func() {
			shutdown0(t, pull, time.Hour)
			close(done)
		}()
		synctest.Wait()
		io.Copy(io.Discard, stranger.Conn) // until it is closed
		r.Send(append(ready(wire.PUSH), frame("late")...))
		r.ExpectClose()
		<-done
		if got := received(t, pull); len(got) != 1 || got[0] != "late" {
			t.Errorf("received %q", got)
		}
	})
}
