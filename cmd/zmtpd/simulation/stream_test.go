package simulation

import (
	"testing"

	"pgregory.net/rapid"
)

// received returns the arrivals of the events with some numbers.
func received(s stream, numbers ...uint64) *arrivals {
	a := &arrivals{of: make(map[stream]*arrival)}
	for _, n := range numbers {
		a.got(s, n)
	}
	return a
}

func TestBalance(t *testing.T) {
	s := stream{findings, "worker-1/1", manager}
	for _, c := range []struct {
		name    string
		prepare func(*book, *arrivals)
		numbers []uint64
		want    Balance // of five events
	}{
		{"all", nil, []uint64{1, 2, 3, 4, 5}, Balance{Expected: 5, Received: 5}},
		{"a gap", nil, []uint64{1, 2, 5}, Balance{Expected: 5, Received: 3, Lost: 2}},
		{"the first", nil, []uint64{3, 4, 5}, Balance{Expected: 5, Received: 3, Lost: 2}},
		{"the last", nil, []uint64{1, 2, 3}, Balance{Expected: 5, Received: 3, Lost: 2}},
		{"nothing", nil, nil, Balance{Expected: 5, Lost: 5}},
		{"twice", nil, []uint64{1, 2, 2, 3, 4, 5},
			Balance{Expected: 5, Received: 5, Disordered: 1}},
		{"the sender died", func(b *book, _ *arrivals) { b.died(s.from) }, []uint64{1, 3},
			Balance{Expected: 5, Received: 2, Lost: 1, LostDead: 2}},
		{"the receiver is slow", func(_ *book, a *arrivals) { a.slow = true }, []uint64{1},
			Balance{Expected: 5, Received: 1, LostSlow: 4}},
		{"the receiver died", func(_ *book, a *arrivals) { a.end() }, []uint64{1, 3},
			Balance{Expected: 3, Received: 2, Lost: 1}},
		{"the receiver came late",
			func(_ *book, a *arrivals) { a.ready(map[stream]uint64{s: 3}) }, []uint64{3, 5},
			Balance{Expected: 3, Received: 2, Lost: 1}},
		{"the receiver came late and got nothing",
			func(_ *book, a *arrivals) { a.ready(map[stream]uint64{s: 3}) }, nil,
			Balance{Expected: 2, Lost: 2}},
	} {
		b := newBook()
		for range 5 {
			b.taken(s)
		}
		a := received(s, c.numbers...)
		if c.prepare != nil {
			c.prepare(b, a)
		}
		var all [numKinds]Balance
		b.balance(&all, manager, false, a)
		if all[findings] != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, all[findings], c.want)
		}
		b.balance(&all, "proxy-1", false, received(s))
		if all[findings] != c.want {
			t.Errorf("%s: a node that is no receiver counts", c.name)
		}
	}
}

// Whatever is dropped and repeated, every expected event is received or lost.
func TestBalanceAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := stream{indicators, "manager/1", ""}
		b := newBook()
		a := received(s)
		sent := rapid.Uint64Range(0, 30).Draw(t, "sent")
		arrived := make(map[uint64]bool)
		for n := uint64(1); n <= sent; n++ {
			b.taken(s)
			if rapid.Bool().Draw(t, "arrives") {
				a.got(s, n)
				arrived[n] = true
			}
		}
		var all [numKinds]Balance
		b.balance(&all, "worker-1", true, a)
		got := all[indicators]
		want := Balance{Expected: sent, Received: uint64(len(arrived)),
			Lost: sent - uint64(len(arrived))}
		if got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}
