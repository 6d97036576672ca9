package forwarder

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testContext returns a context that ends if the test hangs.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type shutdowner interface{ Shutdown(context.Context) error }

func shutdown(t testing.TB, all ...shutdowner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, s := range all {
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

// One message goes through the broker over TCP.
func TestForward(t *testing.T) {
	ctx := testContext(t)
	f := New(Config{})
	defer shutdown(t, f)
	in, err := f.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	sub := zmtp.NewSub(zmtp.Config{})
	defer shutdown(t, sub)
	if err := sub.Subscribe("zeek."); err != nil {
		t.Fatal(err)
	}
	if err := sub.Connect(out); err != nil {
		t.Fatal(err)
	}
	pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{})
	defer shutdown(t, pub)
	if err := pub.Connect(in); err != nil {
		t.Fatal(err)
	}
	if m, err := pub.Recv(ctx); err != nil || string(m.Part(0)) != "\x01zeek." {
		t.Fatalf("publisher got %q, %v", m.Wire(), err)
	}
	if err := pub.Send(ctx, zmtp.NewMessageString("zeek.cluster", "id", "broker-bin-v1",
		"event")); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.Recv(ctx); err != nil || m.NumParts() != 4 ||
		string(m.Part(0)) != "zeek.cluster" {
		t.Fatalf("subscriber got %q, %v", m.Wire(), err)
	}
	st := f.Stats()
	if want := (zmtp.Traffic{Messages: 1, Parts: 4, Bytes: 12 + 2 + 13 +
		5}); st.Frontend.In != want || st.Backend.Out != want {
		t.Errorf("%+v, want %+v down", st, want)
	}
	if want := (zmtp.Traffic{Messages: 1, Parts: 1, Bytes: 6}); st.Backend.In != want ||
		st.Frontend.Out != want {
		t.Errorf("%+v, want %+v up", st, want)
	}
	if st.Received.Unmatched != 0 || st.Topics != 1 || len(st.Publishers) != 1 ||
		len(st.Subscribers) != 1 || st.Subscribers[0].Topics != 1 {
		t.Errorf("%+v", st)
	}
}
