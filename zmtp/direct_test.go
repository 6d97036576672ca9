package zmtp

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/zmtptest"
)

// An inproc connection has room for the messages of both sockets' limits, exactly, and a sender
// that was refused is told when half of it is free (libzmq, test_hwm).
func TestDirectHWM(t *testing.T) {
	for name, c := range map[string]struct {
		push, pull Config
		want, half int
	}{
		"messages":       {Config{SendHWM: 3}, Config{RecvHWM: 7}, 10, 5},
		"one each":       {Config{SendHWM: 1}, Config{RecvHWM: 1}, 2, 1},
		"bytes":          {Config{SendBytes: 30}, Config{RecvBytes: 30}, 6, 3}, // of 10 bytes each
		"sender without": {Config{SendHWM: -1}, Config{RecvHWM: 1}, 5000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *zmtptest.Network) {
				push, pull := inprocPair(t, c.push, c.pull)
				defer closeNow(t, push)
				defer closeNow(t, pull)
				synctest.Wait()
				sent := 0
				for sent < c.want && push.TrySend(message(fmt.Sprintf("%08d", sent))) == nil {
					sent++
				}
				if sent != c.want {
					t.Fatalf("%d messages fit, want %d", sent, c.want)
				}
				if c.half == 0 {
					return
				}
				if err := push.TrySend(message("more")); err != ErrWouldBlock {
					t.Fatalf("one more: %v", err)
				}
				if n := pull.Stats().RecvQueued; n != c.want {
					t.Errorf("%d messages wait at the receiver", n)
				}
				done := make(chan error)
				go func() { done <- push.Send(t.Context(), message("waited")) }()
				for i := range c.want - c.half {
					synctest.Wait()
					select {
					case err := <-done:
						t.Fatalf("Send returned after %d messages were received: %v", i, err)
					default:
					}
					mustRecv(t, pull, fmt.Sprintf("%08d", i))
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Messages that were queued before there was a connection, small, large, alone and in batches, come
// before those that are sent later, and the greeting of a DEALER before all.
func TestDirectOrder(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		from := NewDealer(Config{}, DealerOptions{Hello: message("hello")})
		to := NewDealer(Config{})
		defer closeNow(t, to)
		if err := from.Connect("inproc://order"); err != nil {
			t.Fatal(err)
		}
		n := 0
		send := func() {
			var batch BatchBuilder
			for _, size := range []int{1, 100, handOverSize, 100_000} {
				one := NewMessage(fmt.Append(nil, n), make([]byte, size))
				if err := from.TrySend(one); err != nil {
					t.Fatal(err)
				}
				n++
				batch.Add(fmt.Append(nil, n), make([]byte, size))
				n++
				b := batch.Batch()
				if took, err := from.TrySendBatch(b); took != 1 {
					t.Fatal(err)
				}
				b.Release()
			}
		}
		for range 10 {
			send()
		}
		if _, err := to.Listen("inproc://order"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			send()
			synctest.Wait()
		}
		if err := from.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		mustRecv(t, to, "hello")
		for i := 0; i < n; {
			if i%3 > 0 {
				m, err := to.TryRecv()
				if err != nil || string(m.Part(0)) != fmt.Sprint(i) {
					t.Fatalf("message %d: %.20v, %v", i, m, err)
				}
				i++
				continue
			}
			b, err := to.TryRecvBatch()
			if err != nil {
				t.Fatal(err)
			}
			for m := range b.Messages() {
				if string(m.Part(0)) != fmt.Sprint(i) {
					t.Fatalf("message %d: %.20v", i, m)
				}
				i++
			}
			b.Release()
		}
	})
}

// A sender that waits for room goes on when the receiver is closed: what it sends then waits for
// the next one. What a closed receiver had not received counts as dropped there.
func TestDirectReceiverCloses(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := inprocPair(t, Config{SendHWM: 2}, Config{RecvHWM: 2})
		defer closeNow(t, push)
		synctest.Wait()
		for range 4 {
			mustSend(t, push, "lost")
		}
		done := make(chan error)
		go func() { done <- push.Send(t.Context(), message("waited")) }()
		synctest.Wait()
		closeNow(t, pull)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if st := pull.Stats(); st.Dropped[DropClosed] != 4 || st.In.Messages != 4 {
			t.Errorf("the closed receiver: in %d, dropped %v", st.In.Messages, st.Dropped)
		}
		next := NewPull(Config{})
		defer closeNow(t, next)
		if _, err := next.Listen("inproc://" + t.Name()); err != nil {
			t.Fatal(err)
		}
		mustRecv(t, next, "waited")
		time.Sleep(time.Minute)
		mustSend(t, push, "direct again")
		mustRecv(t, next, "direct again")
		if st := push.Stats(); st.Out.Messages != 6 || st.Dropped.Total() != 0 {
			t.Errorf("the sender: out %d, dropped %v", st.Out.Messages, st.Dropped)
		}
	})
}

// New limits of the receiver wake a sender that waits for room.
func TestDirectReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := inprocPair(t, Config{SendHWM: 1}, Config{RecvHWM: 1})
		defer closeNow(t, push)
		defer closeNow(t, pull)
		synctest.Wait()
		mustSend(t, push, "1")
		mustSend(t, push, "2")
		done := make(chan error)
		go func() { done <- push.Send(t.Context(), message("3")) }()
		synctest.Wait()
		pull.Reconfigure(Config{RecvHWM: 2})
		if err := <-done; err != nil {
			t.Error(err)
		}
		// With a budget the queue is not shared any more; order and number stay.
		pull.Reconfigure(Config{RecvHWM: 10, TotalRecvBytes: 1 << 20})
		mustSend(t, push, "4")
		synctest.Wait()
		if err := errors.Join(push.Shutdown(t.Context())); err != nil {
			t.Error(err)
		}
		for i := range 4 {
			mustRecv(t, pull, fmt.Sprint(i+1))
		}
	})
}

// Small batches over inproc gather in larger ones: order and content stay, for Recv and RecvBatch,
// and while the receiver takes from the batch that grows.
func TestDirectSmallBatches(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := inprocPair(t, Config{SendHWM: -1}, Config{})
		defer closeNow(t, push)
		defer closeNow(t, pull)
		synctest.Wait()
		sent, got := 0, 0
		send := func(n int) {
			var batch BatchBuilder
			for range n {
				batch.Add(fmt.Append(nil, sent), []byte("part"))
				sent++
			}
			b := batch.Batch()
			if took, err := push.TrySendBatch(b); took != n {
				t.Fatal(took, err)
			}
			b.Release()
		}
		check := func(m Message) {
			t.Helper()
			if text(m) != fmt.Sprintf("%d,part", got) {
				t.Fatalf("message %d: %q", got, text(m))
			}
			got++
		}
		for i := range 2 * gatheredMessages {
			send(1 + i%7)
			if i%3 == 0 {
				mustSend(t, push, fmt.Sprint(sent), "part") // in between, alone
				sent++
			}
			if i%2 == 0 {
				m, err := pull.TryRecv()
				if err != nil {
					t.Fatal(err)
				}
				check(m)
			}
			if i%100 == 99 {
				b, err := pull.TryRecvBatch()
				if err != nil {
					t.Fatal(err)
				}
				for m := range b.Messages() {
					check(m)
				}
				b.Release()
			}
		}
		send(2 * gatheredMessages)
		for got < sent {
			m, err := pull.TryRecv()
			if err != nil {
				t.Fatal(err)
			}
			check(m)
		}
		if st := pull.Stats(); st.RecvQueued != 0 || st.RecvQueuedBytes != 0 ||
			st.In.Messages != uint64(sent) {
			t.Errorf("%d of %d received, %d messages and %d bytes left", st.In.Messages, sent,
				st.RecvQueued, st.RecvQueuedBytes)
		}
	})
}
