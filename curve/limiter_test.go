package curve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
)

func ip(format string, a ...any) net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf(format, a...)), Port: 1}
}

// flood lets n HELLOs of each address wait. The returned function ends them.
func flood(l *Limiter, n int, addrs ...net.Addr) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range n {
		for _, a := range addrs {
			all.Go(func() { l.wait(ctx, a, handshakeCost) })
		}
		synctest.Wait()
	}
	return func() { cancel(); all.Wait() }
}

func strangers(n int) (all []net.Addr) {
	for i := range n {
		all = append(all, ip("192.0.%d.%d", i/250, i%250))
	}
	return all
}

// waited returns the time that a HELLO waits for its turn.
func waited(t *testing.T, l *Limiter, a net.Addr) time.Duration {
	t.Helper()
	start := time.Now()
	if err := l.wait(t.Context(), a, handshakeCost); err != nil {
		t.Errorf("%v: %v", a, err)
	}
	return time.Since(start)
}

// However many HELLOs come, the handshakes that begin are at most a burst plus the rate.
func TestLimiterBoundsHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100
		l := NewLimiter(rate)
		end := flood(l, 20, strangers(100)...)
		defer end()
		if st := l.Stats(); st.Started != rate {
			t.Errorf("%d handshakes at once, want %d", st.Started, rate)
		}
		for second := range 10 {
			time.Sleep(time.Second)
			synctest.Wait()
			if st, want := l.Stats(), uint64(rate*(second+2)); st.Started > want ||
				st.Started < want-1 {
				t.Errorf("%d handshakes after %d s, want %d", st.Started, second+1, want)
			}
		}
		if st := l.Stats(); st.Started+st.RefusedFull+uint64(st.Waiting) != 2000 {
			t.Errorf("%+v does not add up to 2000", st)
		}
	})
}

// A handshake with a server that has more keys takes more of the rate.
func TestLimiterCountsMultiplications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		n := 0
		for l.wait(canceled(), ip("192.0.2.1"), 2*handshakeCost) == nil {
			n++
		}
		if n != 50 {
			t.Errorf("%d handshakes of double cost have begun, want 50", n)
		}
	})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// One address gets a burst and a quarter of the rate. HELLOs beyond that are refused at once.
func TestLimiterBoundsAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100
		l := NewLimiter(rate)
		attacker := ip("192.0.2.1")
		begun := 0
		for range 10 * 1000 { // for 10 s
			if err := l.wait(t.Context(), attacker, handshakeCost); err == nil {
				begun++
			} else if reasonOf(err) != wire.HandshakeLimited {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if begun < rate+10*rate/4-1 || begun > rate+10*rate/4+1 {
			t.Errorf("%d handshakes of one address in 10 s", begun)
		}
		if st := l.Stats(); st.RefusedRate != uint64(10*1000-begun) {
			t.Errorf("%+v", st)
		}
		if d := waited(t, l, ip("192.0.2.2")); d != 0 {
			t.Errorf("another address waited for %v", d)
		}
	})
}

// A client at a new address waits for one handshake of each waiting address, not for all their
// handshakes.
func TestLimiterLetsAddressesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		end := flood(l, 60, strangers(10)...)
		defer end()
		if n := l.Stats().Waiting; n != 500 {
			t.Fatalf("%d wait", n)
		}
		if d := waited(t, l, ip("198.51.100.1")); d > 12*10*time.Millisecond {
			t.Errorf("the client waited for %v behind 10 addresses at 100 handshakes/s", d)
		}
	})
}

// A client at a known address, from which one was admitted, goes before any number of strangers.
func TestLimiterKnowsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		known := ip("198.51.100.1")
		l.admitted(known)
		end := flood(l, 4, strangers(2000)...)
		defer end()
		if n := l.Stats().Waiting; n != maxWaiting {
			t.Fatalf("%d wait", n)
		}
		for range 20 {
			if d := waited(t, l, known); d > 2*10*time.Millisecond {
				t.Errorf("the client waited for %v at 100 handshakes/s", d)
			}
		}
	})
}

// Known addresses do not exclude strangers.
func TestLimiterKeepsTurnsForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		many := strangers(50)
		for _, a := range many {
			l.admitted(a)
		}
		end := flood(l, 10, many...)
		defer end()
		if d := waited(t, l, ip("198.51.100.1")); d > (knownTurns+2)*10*time.Millisecond {
			t.Errorf("the client waited for %v at 100 handshakes/s", d)
		}
	})
}

// When too many HELLOs wait, the address with the most loses one.
func TestLimiterRefusesTheLongestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(200)
		hogs := strangers(6)
		end := flood(l, 200, hogs...)
		defer end()
		before := l.Stats()
		if before.Waiting < 1000 {
			t.Fatalf("%+v", before)
		}
		defer flood(l, 1, ip("198.51.100.1"), ip("198.51.100.2"), ip("198.51.100.3"))()
		for range maxWaiting - before.Waiting {
			defer flood(l, 1, ip("198.51.100.4"))()
		}
		if st := l.Stats(); st.Waiting != maxWaiting {
			t.Errorf("%d wait", st.Waiting)
		}
		for _, key := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
			if l.waiting[0].lines[netip.MustParseAddr(key)].len() != 1 {
				t.Errorf("%s was refused", key)
			}
		}
	})
}

// A client that goes away while it waits leaves nothing behind, and uses up no turn.
func TestLimiterForgetsClientsThatGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		end := flood(l, 60, strangers(10)...)
		end()
		st := l.Stats()
		if q := &l.waiting[0]; st.Waiting != 0 || len(q.turns) != 0 || len(q.lines) != 0 {
			t.Errorf("%d wait, %d turns, %d lines", st.Waiting, len(q.turns), len(q.lines))
		}
		time.Sleep(time.Second)
		if d := waited(t, l, ip("198.51.100.1")); d != 0 {
			t.Errorf("the client waited for %v", d)
		}
		if now := l.Stats(); now.Started != st.Started+1 {
			t.Errorf("%+v, before %+v", now, st)
		}
	})
}

// A HELLO whose time is over while it waits ends as a timeout.
func TestLimiterWaitsForContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		for l.Stats().Waiting == 0 {
			defer flood(l, 1, ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3"))()
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond,
			errors.New("its time is over"))
		defer cancel()
		if err := l.wait(ctx, ip("198.51.100.1"),
			handshakeCost); reasonOf(err) != wire.HandshakeTimeout {
			t.Error(err)
		}
	})
}

// Addresses take bounded memory. Forgetting an address, with its burst, does not raise the rate of
// all.
func TestLimiterForgetsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		for i := range 2 * maxAddresses {
			a := ip("2001:db8:%x:%x::1", i>>16, i&0xffff)
			l.wait(canceled(), a, handshakeCost)
			l.admitted(a)
		}
		if a, k := len(l.address.of), len(l.known.of); a != maxAddresses || k != maxAddresses {
			t.Errorf("%d addresses and %d known addresses are kept", a, k)
		}
		if st := l.Stats(); st.Started > (MaxServerKeys+handshakeCost)/handshakeCost {
			t.Errorf("%+v", st)
		}
	})
}
