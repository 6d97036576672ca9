package zmtp

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
)

// slowOutbox is an obviously correct outbox: a list of the items that wait.
type slowOutbox struct {
	hwm      int
	maxBytes int64

	control  []byte
	queue    []outItem
	taken    []outItem
	takenCtl int
	full     bool
	closed   bool
	sent     Traffic
}

// outItem is a message or, if msgs is 0, a subscription.
type outItem struct {
	b    string
	msgs int
}

func (s *slowOutbox) level() (msgs int, size int64) {
	for _, list := range [][]outItem{s.taken, s.queue} {
		for _, it := range list {
			msgs += it.msgs
			size += int64(len(it.b))
		}
	}
	return msgs, size
}

func (s *slowOutbox) fits(n int) bool {
	msgs, size := s.level()
	if s.closed || s.hwm > 0 && msgs >= s.hwm {
		return false
	}
	return s.maxBytes <= 0 || size+int64(n) <= s.maxBytes || msgs == 0
}

func (s *slowOutbox) offer(m Message) bool {
	if !s.fits(len(m.wire)) {
		s.full = true
		return false
	}
	s.queue = append(s.queue, outItem{string(m.wire), 1})
	s.sent.Add(Traffic{1, uint64(m.NumParts()), uint64(m.Size())})
	return true
}

// drained reports whether senders that wait for room must be woken.
func (s *slowOutbox) drained() bool {
	msgs, size := s.level()
	if !s.full || s.hwm > 0 && msgs > s.hwm/2 || s.maxBytes > 0 && size > s.maxBytes/2 {
		return false
	}
	s.full = false
	return true
}

func opened(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// genMessage draws a message that is small, too large for one chunk, or large enough to be sent
// from its own memory.
func genMessage(t *rapid.T) Message {
	size := rapid.OneOf(
		rapid.IntRange(0, 300), rapid.IntRange(0, 300), rapid.IntRange(0, 300),
		rapid.IntRange(referSize-20, referSize+20),
		rapid.IntRange(chunkSize-300, chunkSize+20),
	).Draw(t, "size")
	parts := make([][]byte, rapid.IntRange(1, 3).Draw(t, "parts"))
	for i := range parts {
		parts[i] = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size/len(parts))
	}
	return NewMessage(parts...)
}

// genBatch puts messages into a batch as a read leaves them, perhaps with some removed.
func genBatch(t *rapid.T) *Batch {
	var buf []byte
	b := new(Batch)
	for range rapid.IntRange(1, 12).Draw(t, "messages") {
		m := genMessage(t)
		parts, size := m.counts()
		start := len(buf)
		buf = append(buf, m.wire...)
		if rapid.IntRange(0, 3).Draw(t, "kept") > 0 {
			b.spans = append(b.spans, span{start, len(buf), parts, size})
		}
	}
	b.slab = &slab{buf: buf}
	b.slab.refs.Store(1)
	return b
}

func testOutbox(t *rapid.T, parked bool) {
	drawLimits := func(t *rapid.T) (int, int64) {
		return rapid.SampledFrom([]int{0, 1, 2, 10}).Draw(t, "hwm"),
			rapid.SampledFrom([]int64{0, 1, 500, 100 << 10}).Draw(t, "bytes")
	}
	slow := new(slowOutbox)
	slow.hwm, slow.maxBytes = drawLimits(t)
	o := newOutbox(slow.hwm, slow.maxBytes, nil)
	signalled := 0
	o.onRoom = func() { signalled++ }
	var taken []chunk
	var inFlight []byte
	var slabs []*slab
	check := func() {
		t.Helper()
		msgs, size := slow.level()
		if m, b, _ := o.level(); m != msgs || b != size {
			t.Fatalf("%d messages of %d bytes wait, want %d of %d", m, b, msgs, size)
		}
		if got := o.traffic(); got != slow.sent {
			t.Fatalf("counted %+v, want %+v", got, slow.sent)
		}
		if got, want := o.empty(), msgs == 0 && size == 0 && len(slow.control) == 0; got != want {
			t.Fatalf("empty is %v, want %v", got, want)
		}
	}
	// wakes runs f and checks that it wakes waiting senders if it must.
	wakes := func(f func(), must func() bool) {
		t.Helper()
		room, before := o.room.wait(), signalled
		f()
		if want := must(); opened(room) != want || (signalled > before) != want {
			t.Fatalf("those who wait for room were woken: %v, want %v", !want, want)
		}
	}
	never := func() bool { return false }
	take := func(t *rapid.T) {
		if taken != nil {
			return
		}
		limit := rapid.SampledFrom([]int{1, 100, maxWrite}).Draw(t, "limit")
		chunks, control := o.take(nil, limit, never)
		inFlight = nil
		for i, c := range chunks {
			inFlight = append(inFlight, c.b...)
			if i > 0 && len(inFlight)-control > limit && len(inFlight)-control != len(c.b) {
				t.Fatalf("took %d bytes, the limit is %d", len(inFlight)-control, limit)
			}
		}
		if !bytes.Equal(inFlight[:control], slow.control) {
			t.Fatalf("took commands %q, want %q", inFlight[:control], slow.control)
		}
		slow.control, slow.takenCtl = nil, control
		rest := inFlight[control:]
		for len(rest) > 0 {
			if len(slow.queue) == 0 || !bytes.HasPrefix(rest, []byte(slow.queue[0].b)) {
				t.Fatalf("took something that is not next, or not whole: %d bytes", len(rest))
			}
			rest = rest[len(slow.queue[0].b):]
			slow.taken = append(slow.taken, slow.queue[0])
			slow.queue = slow.queue[1:]
		}
		if len(chunks) == 0 {
			if len(slow.queue) > 0 {
				t.Fatal("took nothing, although something waits")
			}
			return
		}
		taken = chunks
	}
	actions := map[string]func(*rapid.T){
		"message": func(t *rapid.T) {
			m := genMessage(t)
			want := slow.offer(m)
			if got := o.offerMessage(m); got != want {
				t.Fatalf("a message of %d bytes was taken: %v, want %v", len(m.wire), got, want)
			}
		},
		"batch": func(t *rapid.T) {
			b := genBatch(t)
			var runs []Run
			for i := 0; i < b.Len(); {
				to := rapid.IntRange(i, b.Len()).Draw(t, "to")
				runs = append(runs, Run{i, to})
				i = to + rapid.IntRange(0, 2).Draw(t, "gap")
				if to == i {
					i++
				}
			}
			want := 0
		all:
			for _, r := range runs {
				for i := r.From; i < r.To; i++ {
					if !slow.offer(b.Message(i)) {
						break all
					}
					want++
				}
			}
			if got := o.offer(b, runs); got != want {
				t.Fatalf("took %d messages, want %d", got, want)
			}
			if b.slab.refs.Load() == 1 { // the outbox has copies
				for i := range b.slab.buf {
					b.slab.buf[i] = 0xdb
				}
			}
			slabs = append(slabs, b.slab)
		},
		"room": func(t *rapid.T) {
			n := rapid.IntRange(0, 1000).Draw(t, "size")
			want := slow.fits(n)
			ask := o.hasRoom // which must not change anything
			if rapid.Bool().Draw(t, "await") {
				ask, slow.full = o.awaitRoom, slow.full || !want
			}
			if got := ask(int64(n)); got != want {
				t.Fatalf("room for %d bytes: %v, want %v", n, got, want)
			}
		},
		"command": func(t *rapid.T) {
			b := wire.AppendPong(nil, rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "context"))
			o.command(b)
			if !slow.closed {
				slow.control = append(slow.control, b...)
			}
		},
		"limits": func(t *rapid.T) {
			slow.hwm, slow.maxBytes = drawLimits(t)
			wakes(func() { o.limit(slow.hwm, slow.maxBytes) }, slow.drained)
		},
		"take": take,
		"written": func(t *rapid.T) {
			if taken == nil {
				return
			}
			wakes(func() { o.done(taken, slow.takenCtl) }, func() bool { slow.taken = nil; return slow.drained() })
			taken = nil
		},
		"close": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
				return
			}
			slow.closed = true
			o.close(false)
		},
		"": func(t *rapid.T) { check() },
	}
	if parked {
		actions["broken"] = func(t *rapid.T) {
			if taken == nil {
				return
			}
			n := rapid.IntRange(0, len(inFlight)-1).Draw(t, "written")
			lost, written := 0, n-slow.takenCtl
			var back []outItem
			for _, it := range slow.taken {
				if written -= len(it.b); written >= 0 && len(back) == 0 {
					lost++
					continue
				}
				back = append(back, it)
			}
			slow.taken = nil
			slow.queue = append(back, slow.queue...)
			if got := o.restore(taken, slow.takenCtl, n); got != lost {
				t.Fatalf("lost %d messages, want %d", got, lost)
			}
			slow.full = o.full // when exactly it wakes during this nobody can tell
			taken = nil
		}
	} else {
		actions["subscription"] = func(t *rapid.T) {
			topic := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "topic")
			frame := wire.AppendSubscription(nil, rapid.Bool().Draw(t, "3.0"), true, topic)
			wakes(func() { o.force(frame, 1+len(topic)) }, never)
			if !slow.closed {
				slow.queue = append(slow.queue, outItem{string(frame), 0})
				slow.sent.Add(Traffic{1, 1, uint64(1 + len(topic))})
			}
		}
	}
	t.Repeat(actions)
	if parked && taken == nil && rapid.Bool().Draw(t, "reclaim") {
		for _, m := range o.reclaim() {
			if len(slow.queue) == 0 || slow.queue[0].b != string(m.wire) {
				t.Fatalf("took back a message of %d bytes that is not next", len(m.wire))
			}
			slow.queue = slow.queue[1:]
		}
		if len(slow.queue) > 0 || o.offerMessage(NewMessageString("m")) {
			t.Fatal("did not take all back, or takes more")
		}
		slow.control = nil
	}
	// In the end everything goes out, and no memory counts as used.
	for {
		if taken != nil {
			o.done(taken, slow.takenCtl)
			taken, slow.taken = nil, nil
		}
		if take(t); taken == nil {
			break
		}
	}
	check()
	for _, s := range slabs {
		// restore leaves some to the garbage collector
		if refs := s.refs.Load(); !parked && refs != 1 {
			t.Fatalf("a slab has %d references, want that of the batch alone", refs)
		}
	}
	if o.forced != 0 || o.msgs != 0 || o.bytes != 0 {
		t.Fatalf("left on the books: %d messages, %d bytes, %d of them forced", o.msgs, o.bytes,
			o.forced)
	}
}

func TestOutboxAgainstModel(t *testing.T) {
	t.Run("of a peer", func(t *testing.T) {
		rapid.Check(t,
			func(t *rapid.T) { testOutbox(t, false) })
	})
	t.Run("of an endpoint", func(t *testing.T) {
		rapid.Check(t,
			func(t *rapid.T) { testOutbox(t, true) })
	})
}

func TestOutboxDiscard(t *testing.T) {
	o := newOutbox(0, 0, nil)
	for i := range 10 {
		o.offerMessage(NewMessageString(fmt.Sprint(i)))
	}
	o.force(subscribe("t"), 2)
	taken, control := o.take(nil, 1, never)
	o.offerMessage(NewMessageString("behind"))
	if lost := o.close(true); lost != 1 {
		t.Errorf("%d messages lost, want 1", lost)
	}
	if done := o.done(taken, control); done != 10 {
		t.Errorf("%d messages were under way, want 10", done)
	}
	if m, b, _ := o.level(); m != 0 || b != 0 || o.forced != 0 {
		t.Errorf("%d messages, %d bytes, %d forced are left", m, b, o.forced)
	}
}

// The subscriptions that a peer leaves unread have a limit of their own. It counts the waiting
// ones, not all that were sent.
func TestOutboxForcedLimit(t *testing.T) {
	frame := subscribe("topic")
	limit := int64(3 * len(frame))
	o := newOutbox(1, limit, nil)
	o.offerMessage(NewMessageString("m"))
	for i := range 100 {
		if !o.force(frame, 6) {
			t.Fatalf("subscription %d is above the limit, although all before were written", i)
		}
		if i%2 == 1 {
			taken, control := o.take(nil, 1, never)
			o.offerMessage(NewMessageString("m")) // so that it is never empty
			o.done(taken, control)
		}
	}
	for range 2 {
		o.force(frame, 6)
	}
	if bytes, got := o.forcedLevel(); bytes != 2*int64(len(frame)) || got != limit {
		t.Errorf("%d bytes wait of %d, want %d of %d", bytes, got, 2*len(frame), limit)
	}
	// A lower limit closes no peer until more subscriptions come.
	o.limit(1, 1)
	if bytes, limit := o.forcedLevel(); bytes != limit {
		t.Errorf("lowered below what waits: %d bytes wait, and %d may", bytes, limit)
	}
	if o.force(frame, 6) {
		t.Error("no limit")
	}
	if o.limit(1, 2*limit); !o.force(frame, 6) {
		t.Error("a limit that was raised has no effect")
	}
}

func never() bool { return false }
