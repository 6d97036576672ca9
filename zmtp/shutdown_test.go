package zmtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// Shutdown sends what is queued, however slowly the peer reads.
func TestShutdownSendsWhatIsQueued(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 100
		push := NewPush(Config{}, PushOptions{})
		bind(t, n, push.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PULL, wire.PUSH)
		synctest.Wait()
		const count = 100
		for i := range count {
			if err := push.TrySend(NewMessageString(fmt.Sprintf("%090d", i))); err != nil {
				t.Fatal(err)
			}
		}
		took := make(chan time.Duration, 1)
		go func() { took <- elapsed(func() { shutdown0(t, push, time.Hour) }) }()
		for i := range count {
			time.Sleep(time.Second)
			r.Expect(frame(fmt.Sprintf("%090d", i)))
		}
		r.ExpectClose()
		if d := <-took; d < (count-3)*time.Second || d > (count+1)*time.Second+answerTime {
			t.Errorf("took %v", d)
		}
		if st := push.Stats(); st.Dropped.Total() != 0 || st.Out.Messages != count {
			t.Errorf("%+v", st)
		}
		synctest.Wait()
	})
}

// shutdown0 is shutdown with a limit in the bubble's time.
func shutdown0(t *testing.T, s interface{ Shutdown(context.Context) error }, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// When ctx ends first, the rest is dropped and counted, with and without a connection.
func TestShutdownGivesUp(t *testing.T) {
	for name, connect := range map[string]bool{"a peer that does not read": false, "an endpoint where nobody is": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				n.Buffer = 100
				push := NewPush(inMemory(n, Config{}), PushOptions{})
				if connect {
					push.Connect("tcp://" + addr)
				} else {
					bind(t, n, push.Socket, addr)
					r := dialRaw(t, n, addr)
					shake(r, wire.PULL, wire.PUSH)
				}
				synctest.Wait()
				for range 10 {
					// None fits the buffer whole, so none counts as sent.
					if err := push.TrySend(NewMessage(make([]byte, 190))); err != nil {
						t.Fatal(err)
					}
				}
				cause := errors.New("the cause")
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(time.Minute, func() { cancel(cause) })
				if d := elapsed(func() {
					if err := push.Shutdown(ctx); !errors.Is(err, cause) {
						t.Errorf("error %v", err)
					}
				}); d != time.Minute {
					t.Errorf("took %v", d)
				}
				st := push.Stats()
				if got := st.Dropped[DropClosed] + st.Dropped[DropConnectionLost]; got != 10 {
					t.Errorf("dropped %v", st.Dropped)
				}
			})
		})
	}
}

// Messages that have arrived before the end can still be received; then Recv returns ErrClosed.
func TestRecvAfterShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{})
		r.Send(append(frame("1"), frame("2")...))
		synctest.Wait()
		shutdown0(t, pull, time.Hour)
		for _, want := range []string{"1", "2"} {
			if m, err := pull.Recv(t.Context()); err != nil || text(m) != want {
				t.Errorf("%q, %v", text(m), err)
			}
		}
		for range 2 {
			if m, err := pull.Recv(t.Context()); err != ErrClosed {
				t.Errorf("%q, %v", text(m), err)
			}
			if _, err := pull.TryRecvBatch(); err != ErrClosed {
				t.Errorf("error %v", err)
			}
		}
		for _, err := range pull.All(t.Context()) {
			t.Errorf("All goes on: %v", err)
		}
		if _, err := pull.Listen("tcp://127.0.0.1:*"); err != ErrClosed {
			t.Errorf("Listen: %v", err)
		}
	})
}

// Shutdown waits for an application that is still receiving: nothing is dropped.
func TestShutdownWhileHeldUp(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{RecvHWM: 2})
		for i := range 10 {
			r.Send(frame(fmt.Sprint(i)))
		}
		synctest.Wait()
		go shutdown0(t, pull, time.Hour)
		i := 0
		for m, err := range pull.All(t.Context()) {
			if err != nil || text(m) != fmt.Sprint(i) {
				t.Fatal(text(m), err)
			}
			i++
			time.Sleep(time.Second)
		}
		if i != 10 {
			t.Errorf("%d messages", i)
		}
		if st := pull.Stats(); st.Dropped.Total() != 0 {
			t.Errorf("dropped %v", st.Dropped)
		}
	})
}

// Close drops messages that the application has not received, and wakes receivers.
func TestCloseDropsWhatWasReceived(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, r := listening(t, n, Config{RecvHWM: 2})
		for i := range 5 {
			r.Send(frame(fmt.Sprint(i)))
		}
		synctest.Wait()
		closeNow(t, pull)
		if _, err := pull.Recv(t.Context()); err != ErrClosed {
			t.Errorf("error %v", err)
		}
		st := pull.Stats()
		if st.Dropped[DropClosed] != st.In.Messages || st.In.Messages < 3 || st.RecvQueued != 0 ||
			st.RecvQueuedBytes != 0 {
			t.Errorf("%+v", st)
		}
		waiting := NewPull(Config{})
		time.AfterFunc(time.Second, func() { closeNow(t, waiting) })
		if _, err := waiting.Recv(t.Context()); err != ErrClosed {
			t.Errorf("error %v", err)
		}
		closeNow(t, waiting) // more than once
		shutdown0(t, waiting, time.Second)
	})
}

// Unbind ends the listener, its pending handshakes and its connections, and nothing else.
func TestUnbind(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, "a:1")
		bind(t, n, pull.Socket, "b:1")
		gone, stays, pending := dialRaw(t, n, "a:1"), dialRaw(t, n, "b:1"), dialRaw(t, n, "a:1")
		shake(gone, wire.PUSH, wire.PULL)
		shake(stays, wire.PUSH, wire.PULL)
		pending.Expect(signature())
		gone.Send(frame("before"))
		if err := pull.Unbind("tcp://a:1"); err != nil {
			t.Fatal(err)
		}
		gone.ExpectClose()
		pending.ExpectClose()
		alive(stays)
		if _, err := n.Dial(t.Context(), "a:1"); err == nil {
			t.Error("the listener is still there")
		}
		if m, err := pull.Recv(t.Context()); err != nil || text(m) != "before" {
			t.Errorf("%q, %v: what had come is received", text(m), err)
		}
		for _, e := range []string{"tcp://a:1", "tcp://*:1"} {
			if err := pull.Unbind(e); !errors.Is(err, ErrNoEndpoint) {
				t.Errorf("Unbind %s: %v", e, err)
			}
		}
		if err := pull.Disconnect("tcp://b:1"); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("Disconnect of a listener: %v", err)
		}
		if got := pull.Endpoints(); len(got) != 1 || got[0] != "tcp://b:1" {
			t.Errorf("endpoints %q", got)
		}
		gone.Conn.Close()
		synctest.Wait()
		time.Sleep(time.Second)
		if st := pull.Stats(); st.Closed[wire.LocalClose]+st.Closed[wire.PeerClosed] != 1 ||
			st.Peers != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Disconnect sends first what is queued for the endpoint.
func TestDisconnectSendsWhatIsQueued(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		for i := range 10 {
			push.TrySend(NewMessageString(fmt.Sprint(i)))
		}
		if err := push.Disconnect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		if err := push.TrySend(NewMessageString("m")); err != ErrWouldBlock {
			t.Errorf("sending to nobody: %v", err)
		}
		r := puller(t, listenRaw(t, n, addr)) // nobody listened before
		for i := range 10 {
			r.Expect(frame(fmt.Sprint(i)))
		}
		r.ExpectClose()
		r.Conn.Close()
		time.Sleep(time.Hour)
		if st := push.Stats(); st.Connected != 1 || st.Dropped.Total() != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Each peer is attached and then detached exactly once, however its connection ends. Detach gets
// the reason.
func TestAttachAndDetachOnce(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(*Socket, *Peer, *zmtptest.Raw)
		reason Reason
	}{
		"by the peer": {func(_ *Socket, _ *Peer, r *zmtptest.Raw) { r.Conn.Close() },
			wire.PeerClosed},
		"by a reset": {func(_ *Socket, _ *Peer,
			r *zmtptest.Raw) {
			r.Conn.(*zmtptest.Conn).Cut()
		}, wire.ConnectionLost},
		"by a fault": {func(_ *Socket, _ *Peer, r *zmtptest.Raw) { r.Send([]byte{0xff, 0}) },
			wire.MalformedFrame},
		"by Unbind": {func(s *Socket, _ *Peer, _ *zmtptest.Raw) { s.Unbind("tcp://" + addr) },
			wire.LocalClose},
		"by Close": {func(s *Socket, _ *Peer, _ *zmtptest.Raw) { s.Close() }, wire.LocalClose},
		"by Peer.Close": {func(_ *Socket, p *Peer,
			_ *zmtptest.Raw) {
			p.Close(&PeerClosedError{Reason: wire.SlowConsumer})
		},
			wire.SlowConsumer},
		"by all at once": {func(s *Socket, p *Peer, r *zmtptest.Raw) {
			p.Close(&PeerClosedError{Reason: wire.SlowConsumer})
			r.Conn.Close()
			s.Unbind("tcp://" + addr)
			s.Close()
		}, wire.SlowConsumer},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				c2 := &counting{}
				s := NewSocket(wire.PULL, c2, Config{})
				defer closeNow(t, s)
				bind(t, n, s, addr)
				r := dialRaw(t, n, addr)
				shake(r, wire.PUSH, wire.PULL)
				synctest.Wait()
				p := one(t, s)
				c.end(s, p, r)
				time.Sleep(2 * answerTime)
				synctest.Wait()
				if c2.attached != 1 || c2.detached != 1 || c2.wrong {
					t.Errorf("attached %d times, detached %d times, out of order %v", c2.attached,
						c2.detached, c2.wrong)
				}
				if got := reasonOf(c2.err); got != c.reason {
					t.Errorf("reason %v: %v", got, c2.err)
				}
				select {
				case <-p.Done():
				default:
					t.Error("Done is open")
				}
				// The rest of the peer can still be used.
				p.Close(io.EOF)
				p.SendSubscription([]byte("t"), true)
				if p.OfferMessage(NewMessageString("m")) || p.HasRoom(1) {
					t.Error("takes messages")
				}
				if st := p.Stats(); st.Queued != 0 || st.QueuedBytes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// counting is a pattern that counts the peers that come and go.
type counting struct {
	attached, detached int
	wrong              bool
	err                error
	refuse             error
}

func (c *counting) Attach(*Peer) error {
	if c.refuse != nil {
		return c.refuse
	}
	c.attached++
	return nil
}

func (c *counting) Detach(_ *Peer, err error) {
	c.wrong = c.wrong || c.detached >= c.attached
	c.detached++
	c.err = err
}

func (c *counting) Receive(*Peer, *Batch) error {
	c.wrong = c.wrong || c.detached > 0
	return nil
}

// A pattern may refuse a peer. It gets no further calls about it.
func TestAttachRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		c := &counting{refuse: errors.New("one is enough")}
		s := NewSocket(wire.PAIR, c, Config{})
		defer closeNow(t, s)
		bind(t, n, s, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PAIR, wire.PAIR)
		r.ExpectClose()
		synctest.Wait()
		if st := s.Stats(); st.HandshakeFailures[wire.Rejected] != 1 || c.detached != 0 {
			t.Errorf("%+v, detached %d", st, c.detached)
		}
	})
}
