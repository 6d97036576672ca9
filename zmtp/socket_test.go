package zmtp

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func shutdown(t *testing.T, s interface{ Shutdown(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestPushPullLosesNothing(t *testing.T) {
	ctx := testContext(t)
	pull := NewPull(Config{})
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	push := NewPush(Config{}, PushOptions{})
	if err := push.Connect(bound); err != nil {
		t.Fatal(err)
	}
	const n = 50000
	go func() {
		for i := range n {
			if err := push.Send(ctx, NewMessageString("log-write", fmt.Sprint(i))); err != nil {
				t.Error(err)
				return
			}
		}
		shutdown(t, push)
		shutdown(t, pull)
	}()
	i := 0
	for m, err := range pull.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Part(1)); got != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, got)
		}
		i++
	}
	if i != n {
		t.Fatalf("%d messages, want %d", i, n)
	}
}

func TestPubSub(t *testing.T) {
	ctx := testContext(t)
	xpub := NewXPub(Config{}, XPubOptions{})
	defer shutdown(t, xpub)
	bound, err := xpub.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	sub := NewSub(Config{})
	defer shutdown(t, sub)
	sub.Subscribe("a")
	if err := sub.Connect(bound); err != nil {
		t.Fatal(err)
	}
	m, err := xpub.Recv(ctx)
	if err != nil || string(m.Part(0)) != "\x01a" {
		t.Fatal(m.Wire(), err)
	}
	xpub.Send(ctx, NewMessageString("b1", "x"))
	xpub.Send(ctx, NewMessageString("a1", "x"))
	m, err = sub.Recv(ctx)
	if err != nil || string(m.Part(0)) != "a1" {
		t.Fatal(m.Wire(), err)
	}
}
