package zmtp

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/zmtptest"
)

// wantReady checks which sockets a poller has ready.
func wantReady(t *testing.T, p *Poller, want ...Receiver) {
	t.Helper()
	synctest.Wait()
	if got := p.Ready(); !slices.Equal(got, want) {
		t.Errorf("%d sockets are ready: %v, want %v", len(got), got, want)
	}
}

// A poller tells which sockets have something to receive, until it is received, and that a socket
// has ended (libzmq, test_poller).
func TestPoller(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull, rep, idle := NewPull(Config{}), NewRep(Config{}), NewPull(Config{})
		defer closeNow(t, idle)
		bind(t, n, pull.Socket, "pull:1")
		bind(t, n, rep.Socket, "rep:1")
		push, req := NewPush(inMemory(n, Config{})), NewReq(inMemory(n, Config{}))
		err := errors.Join(push.Connect("tcp://pull:1"), req.Connect("tcp://rep:1"))
		if err != nil {
			t.Fatal(err)
		}
		var p Poller
		for _, s := range []Receiver{pull, rep, idle, req, pull} {
			p.Add(s)
		}
		wantReady(t, &p)
		mustSend(t, push, "1")
		mustSend(t, push, "2")
		wantReady(t, &p, pull)
		if err := req.Send(t.Context(), message("question")); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p, pull, rep)
		mustRecv(t, pull, "1")
		wantReady(t, &p, pull, rep)
		mustRecv(t, pull, "2")
		wantReady(t, &p, rep)
		if _, err := rep.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p) // the request has to be answered first
		if err := rep.Send(t.Context(), message("answer")); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p, req)
		if _, err := req.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantReady(t, &p)
		p.Remove(pull)
		mustSend(t, push, "3")
		wantReady(t, &p)
		p.Add(pull)
		wantReady(t, &p, pull)
		closeNow(t, push)
		closeNow(t, pull)
		closeNow(t, req)
		closeNow(t, rep)
		wantReady(t, &p, rep, req, pull)
	})
}

// Wait waits without a goroutine of its own: for a message, for a socket that is added, or for the
// end of its context. Several goroutines may wait at once.
func TestPollerWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		var p Poller
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, "pull:1")
		push := NewPush(inMemory(n, Config{}))
		defer closeNow(t, push)
		if err := push.Connect("tcp://pull:1"); err != nil {
			t.Fatal(err)
		}
		p.Add(pull)
		synctest.Wait()
		before := runtime.NumGoroutine()
		const waiting = 3
		done := make(chan error, waiting)
		for range waiting {
			go func() {
				got, err := p.Wait(t.Context())
				if err == nil && !slices.Equal(got, []Receiver{pull}) {
					err = errors.New("the wrong sockets are ready")
				}
				done <- err
			}()
		}
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != waiting {
			t.Errorf("%d goroutines for %d calls", n, waiting)
		}
		mustSend(t, push, "1")
		for range waiting {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		mustRecv(t, pull, "1")

		late := NewPull(Config{})
		closeNow(t, late)
		go func() {
			time.Sleep(time.Second)
			p.Add(late)
		}()
		if got, err := p.Wait(t.Context()); err != nil || !slices.Equal(got, []Receiver{late}) {
			t.Errorf("%v, %v", got, err)
		}
		p.Remove(late)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
