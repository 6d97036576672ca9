package forwarder

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// Subscriptions, cancellations, losses of subscribers and new publishers race. At the end each
// publisher has been told the current subscriptions.
func TestSubscriptionsRace(t *testing.T) {
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
	ctx := testContext(t)
	var wg sync.WaitGroup
	var lasting []*zmtp.Sub
	for i := range 4 { // each has its own topics
		sub := zmtp.NewSub(zmtp.Config{})
		if err := sub.Connect(out); err != nil {
			t.Fatal(err)
		}
		lasting = append(lasting, sub)
		wg.Go(func() {
			for n := range 1000 {
				topic := modelTopics[(n+i)%len(modelTopics)]
				sub.Subscribe(topic)
				if n%3 > 0 {
					sub.Unsubscribe(topic)
				}
				if n%100 == 0 {
					passing := zmtp.NewSub(zmtp.Config{})
					passing.Subscribe(topic)
					passing.Subscribe(fmt.Sprint("passing", i, n))
					passing.Connect(out)
					passing.Close()
				}
			}
			sub.Subscribe(fmt.Sprint("last", i))
		})
	}
	var pubs []*zmtp.XPub
	for range 8 {
		pub := zmtp.NewXPub(zmtp.Config{RecvHWM: -1}, zmtp.XPubOptions{Verboser: true})
		if err := pub.Connect(in); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the subscriber is there",
			func() bool { return pub.Topics() > 0 })
		pubs = append(pubs, pub)
	}
	wg.Wait()
	want := slices.Clone(modelTopics)
	for i := range lasting {
		want = append(want, fmt.Sprint("last", i))
	}
	slices.Sort(want)
	for j, pub := range pubs {
		now := map[string]bool{}
		for !slices.Equal(sortedKeys(now), want) {
			m, err := pub.Recv(ctx)
			if err != nil {
				t.Fatalf("publisher %d knows %q, want %q: %v", j, sortedKeys(now), want, err)
			}
			text := m.Part(0)
			if text[0] == 1 {
				now[string(text[1:])] = true
			} else {
				delete(now, string(text[1:]))
			}
		}
	}
	for _, sub := range lasting {
		sub.Close()
	}
	for j, pub := range pubs {
		for pub.Topics() > 0 {
			if _, err := pub.Recv(ctx); err != nil {
				t.Fatalf("publisher %d: %d topics are left: %v", j, pub.Topics(), err)
			}
		}
		pub.Close()
	}
}

func sortedKeys(m map[string]bool) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
