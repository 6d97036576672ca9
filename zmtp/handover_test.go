package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// inprocPair connects a PUSH to a PULL.
func inprocPair(t *testing.T, push, pull Config) (*Push, *Pull) {
	t.Helper()
	from, to := NewPush(push), NewPull(pull)
	endpoint := "inproc://" + t.Name()
	if _, err := to.Listen(endpoint); err != nil {
		t.Fatal(err)
	}
	if err := from.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// A large message is received as it was sent, not as a copy: by Recv, by RecvBatch, and by several
// subscribers.
func TestHandOverWithoutCopy(t *testing.T) {
	same := func(a, b Message) bool {
		return &a.wire[0] == &b.wire[0] && len(a.wire) == len(b.wire)
	}
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := inprocPair(t, Config{}, Config{})
		defer closeNow(t, push)
		defer closeNow(t, pull)
		mustSend(t, push, "first") // then the connection is known to be one within the process
		mustRecv(t, pull, "first")
		m := NewMessage([]byte("head"), make([]byte, handOverSize))
		for range 2 {
			if err := push.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := pull.Recv(t.Context()); err != nil || !same(got, m) {
			t.Errorf("Recv made a copy, %v", err)
		}
		b, err := pull.RecvBatch(t.Context())
		if err != nil || !same(b.Message(0), m) {
			t.Errorf("RecvBatch made a copy, %v", err)
		}
		b.Release()

		pub := NewPub(Config{})
		defer closeNow(t, pub)
		if _, err := pub.Listen("inproc://pub"); err != nil {
			t.Fatal(err)
		}
		var subs [3]*Sub
		for i := range subs {
			subs[i] = NewSub(Config{})
			defer closeNow(t, subs[i])
			if err := subs[i].Subscribe("head"); err != nil {
				t.Fatal(err)
			}
			if err := subs[i].Connect("inproc://pub"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := pub.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		for i, sub := range subs {
			if got, err := sub.Recv(t.Context()); err != nil || !same(got, m) {
				t.Errorf("subscriber %d got a copy, %v", i, err)
			}
		}
	})
}

// Messages of all sizes, alone and in batches that are kept for a while, arrive whole and in order
// over a chain of two sockets: no memory is used again while somebody refers to it. With the race
// detector released memory is overwritten.
func TestHandOverMemory(t *testing.T) {
	front, middle := inprocPair(t, Config{}, Config{})
	back, end := NewPush(Config{}), NewPull(Config{})
	if err := errors.Join(back.Connect("inproc://second")); err != nil {
		t.Fatal(err)
	}
	if _, err := end.Listen("inproc://second"); err != nil {
		t.Fatal(err)
	}
	const count = 3000
	body := func(i int) []byte {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		size := r.IntN(300)
		if i%50 == 0 {
			size = r.IntN(100_000)
		}
		return bytes.Repeat([]byte{byte(i)}, size)
	}
	var done sync.WaitGroup
	defer done.Wait()
	done.Go(func() {
		for i := range count {
			if err := front.Send(t.Context(), NewMessage(fmt.Append(nil, i), body(i))); err != nil {
				t.Error(err)
				return
			}
		}
		shutdown(t, front)
	})
	done.Go(func() {
		var kept []*Batch
		for n := 0; n < count; {
			b, err := middle.RecvBatch(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			n += b.Len()
			if _, err := back.SendBatch(t.Context(), b); err != nil {
				t.Error(err)
				return
			}
			if kept = append(kept, b); len(kept) > 8 {
				kept[0].Release()
				kept = kept[1:]
			}
		}
		shutdown(t, back)
		for _, b := range kept {
			b.Release()
		}
		shutdown(t, middle)
	})
	var all []Message
	for len(all) < count {
		m, err := end.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	shutdown(t, end)
	for i, m := range all {
		if string(m.Part(0)) != fmt.Sprint(i) || !bytes.Equal(m.Part(1), body(i)) {
			t.Fatalf("message %d is %.80v", i, m)
		}
	}
}

// What is handed over counts against the budget of the process until it is released, and nothing
// stays counted.
func TestHandOverBudget(t *testing.T) {
	budget := memory.New(64<<20, nil)
	push, pull := inprocPair(t, Config{Memory: budget}, Config{Memory: budget})
	const size = 1 << 20
	for range 4 {
		if err := push.Send(t.Context(), NewMessage(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	var kept []*Batch
	for n := 0; n < 4; {
		b, err := pull.RecvBatch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, b)
		n += b.Len()
	}
	if used := budget.Stats().Used; used < 4*size {
		t.Errorf("%d bytes count while four messages of %d are kept", used, size)
	}
	for _, b := range kept {
		b.Release()
	}
	shutdown(t, push)
	shutdown(t, pull)
	wait(t, "that nothing counts any more", func() bool { return budget.Stats().Used == 0 })
}

// A receiver has its own limits over inproc too, and one that goes away takes nothing more; what
// waits is sent to the next.
func TestHandOverEnds(t *testing.T) {
	bubble(t, func(t *testing.T, _ *zmtptest.Network) {
		push, pull := inprocPair(t, Config{}, Config{MaxMessageSize: 1000})
		defer closeNow(t, push)
		events := pull.Monitor(100)
		if err := push.Send(t.Context(), NewMessage(make([]byte, 100_000))); err != nil {
			t.Fatal(err)
		}
		if e := waitEvent(t, events, EventDisconnected); reasonOf(e.Err) != wire.MessageTooLarge {
			t.Errorf("a large message: %v", e.Err)
		}
		time.Sleep(time.Minute)
		mustSend(t, push, "small")
		mustRecv(t, pull, "small")
		closeNow(t, pull)
		synctest.Wait()
		mustSend(t, push, "later")
		next := NewPull(Config{})
		defer closeNow(t, next)
		if _, err := next.Listen("inproc://" + t.Name()); err != nil {
			t.Fatal(err)
		}
		mustRecv(t, next, "later")

		// A receiver that does not receive, and whose queue is not shared since it has a budget,
		// does not keep Shutdown longer than its context.
		slow := NewPull(Config{RecvHWM: 1, TotalRecvBytes: 1 << 20})
		defer closeNow(t, slow)
		if _, err := slow.Listen("inproc://slow"); err != nil {
			t.Fatal(err)
		}
		stuck := NewPush(Config{})
		if err := stuck.Connect("inproc://slow"); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			mustSend(t, stuck, "x")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := stuck.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
	})
}
