package zmtp

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A message with more parts than MaxParts is refused, one with as many is accepted. A negative
// limit means none.
func TestMaxParts(t *testing.T) {
	many := func(n int) []byte {
		return append(bytes.Repeat([]byte{byte(wire.More), 0}, n-1), 0, 0)
	}
	for _, c := range []struct {
		limit, parts int
		refused      bool
	}{{0, DefaultMaxParts, false}, {0, DefaultMaxParts + 1, true}, {5, 5, false}, {5, 6, true},
		{-1, 3 * DefaultMaxParts, false}} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			pull := NewPull(Config{MaxParts: c.limit})
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			r.Conn.Write(many(c.parts)) // the end may not arrive
			synctest.Wait()
			m, err := pull.TryRecv()
			if closed := pull.Stats().Closed[wire.TooManyParts]; (closed == 1) != c.refused ||
				(err == nil) == c.refused {
				t.Errorf("limit %d, %d parts: %v, %d closed", c.limit, c.parts, err, closed)
			}
			if err == nil && m.NumParts() != c.parts {
				t.Errorf("%d parts of %d", m.NumParts(), c.parts)
			}
		})
	}
}

// The pieces of a message have the same parts as the whole message, and Rest is a piece without its
// subscription.
func TestUpstreamPieces(t *testing.T) {
	part := rapid.Custom(func(t *rapid.T) []byte {
		return slices.Concat(rapid.SampledFrom([][]byte{{}, {0}, {1}, {2}}).Draw(t, "first"),
			bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 1, 300}).Draw(t, "size")))
	})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(part, 1, 6).Draw(t, "parts")
		var got, want []Upstream
		if err := batchOf(NewMessage(parts...)).Upstream(func(u Upstream) error {
			got = append(got,
				u)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		begin := 0
		for i, p := range parts {
			if len(p) == 0 || p[0] > 1 {
				continue
			}
			u := Upstream{Subscription: true, On: p[0] == 1, Topic: p[1:]}
			if i > begin {
				u.Message = NewMessage(parts[begin : i+1]...)
			}
			want = append(want, u)
			begin = i + 1
		}
		if begin < len(parts) {
			want = append(want, Upstream{Message: NewMessage(parts[begin:]...)})
		}
		if len(got) != len(want) {
			t.Fatalf("%d pieces, want %d", len(got), len(want))
		}
		for i, g := range got {
			w := want[i]
			if g.Subscription != w.Subscription || g.On != w.On || !bytes.Equal(g.Topic, w.Topic) ||
				!bytes.Equal(g.Message.wire, w.Message.wire) {
				t.Errorf("piece %d is %+v, want %+v", i, g, w)
			}
			rest := w.Message.AppendParts(nil)
			if w.Subscription && len(rest) > 0 {
				rest = rest[:len(rest)-1]
			}
			if r := g.Rest(); !bytes.Equal(r.wire, NewMessage(rest...).wire) {
				t.Errorf("rest of piece %d is %x, want %x", i, r.wire, NewMessage(rest...).wire)
			}
		}
	})
}

// A message that is only forwarded costs the memory of its bytes, however many parts it has.
func TestPartsCostNoMemory(t *testing.T) {
	m := Message{wire: append(bytes.Repeat([]byte{byte(wire.More), 0}, 1<<20), 0, 0)}
	b := batchOf(m)
	if n := testing.AllocsPerRun(5, func() {
		if err := b.Upstream(func(u Upstream) error { return nil }); err != nil {
			t.Error(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for a million parts", n)
	}
}
