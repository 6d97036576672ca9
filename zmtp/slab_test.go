package zmtp

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/zmtptest"
)

// Only a peer that sends large messages without a pause gets a large slab, and it loses the slab
// when it stops.
func TestSlabFollowsReads(t *testing.T) {
	read := func(rd *reader, times int, full bool) {
		for range times {
			rd.slab, rd.w = &slab{buf: make([]byte, rd.size)}, 0
			n := 1
			if full {
				n = rd.size
			}
			rd.adapt(n)
		}
	}
	for _, c := range []struct {
		name string
		msgs int
		want int
	}{{"large messages", 10, largeSlab}, {"small messages", manyMsgs + 1, slabSize}} {
		rd := &reader{size: minReadBuffer, msgs: c.msgs}
		read(rd, 3, true)
		if rd.size != slabSize {
			t.Errorf("%s: %d bytes after three full reads", c.name, rd.size)
		}
		read(rd, fullReads-1, true)
		read(rd, 1, false)
		read(rd, fullReads-1, true)
		if rd.size != slabSize {
			t.Errorf("%s: %d bytes after a pause", c.name, rd.size)
		}
		read(rd, 1, true)
		if rd.size != c.want {
			t.Errorf("%s: %d bytes after %d full reads, want %d", c.name, rd.size, fullReads,
				c.want)
		}
		read(rd, 64*4, false)
		if rd.size != minReadBuffer {
			t.Errorf("%s: %d bytes after small reads", c.name, rd.size)
		}
	}
}

// What an outbox shares of a slab pins at most four times the memory that it counts.
func TestSharedMemoryIsCounted(t *testing.T) {
	for _, size := range []int{slabSize, largeSlab, 4 * largeSlab} {
		b := &Batch{slab: newSlab(size),
			spans: []span{{0, size/4 - 1, 1, size/4 - 1}, {size / 2, size/2 + size/4, 1, size / 4}}}
		o := newOutbox(0, 0, nil)
		if n := o.offer(b, []Run{{0, 1}, {1, 2}}); n != 2 {
			t.Fatalf("took %d", n)
		}
		queued := o.chunks.all()
		if len(queued) != 2 || queued[0].slab != nil || queued[1].slab != b.slab {
			t.Errorf("slab of %d bytes: a run below a quarter has to be copied, a quarter "+
				"shared: %+v", size, len(queued))
		}
	}
}

// batches receives everything and returns the number of messages in each batch, and the sizes of
// their slabs.
func batches(t *testing.T, pull *Pull) (msgs, slabs []int) {
	t.Helper()
	for {
		b, err := pull.TryRecvBatch()
		if errors.Is(err, ErrWouldBlock) {
			return msgs, slabs
		}
		if err != nil {
			t.Fatal(err)
		}
		msgs, slabs = append(msgs, b.Len()), append(slabs, len(b.slab.buf))
		b.Release()
		synctest.Wait()
	}
}

// Memory for an announced message grows with the bytes that have arrived, to at most twice their
// size. A peer that has sent large messages gets memory for the next one at once, so that almost no
// byte is moved. All of it is returned.
func TestSlabForLargeMessages(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		const size = 1_000_000
		pull, r := listening(t, n, Config{TotalRecvBytes: 1 << 30}) // which counts
		defer closeNow(t, pull)
		message := frame(string(make([]byte, size)))
		held := func(sent int) int {
			r.Send(message[:sent])
			synctest.Wait()
			held := int(pull.Stats().RecvPinnedBytes)
			r.Send(message[sent:])
			synctest.Wait()
			msgs, slabs := batches(t, pull)
			if len(msgs) != 1 || msgs[0] != 1 || slabs[0] < size || slabs[0] > size*3/2 {
				t.Fatalf("%d messages in slabs of %d bytes", msgs, slabs)
			}
			if st := pull.Stats(); st.RecvPinnedBytes != 0 {
				t.Fatalf("%d bytes are held for a peer that says nothing", st.RecvPinnedBytes)
			}
			return held
		}
		if got := held(size / 2); got < size/2 || got > size {
			t.Errorf("%d bytes for half a message of %d of a peer that has sent none", got, size)
		}
		if got := held(10_000); got < size || got > size*3/2 {
			t.Errorf("%d bytes for the beginning of a message of %d of a peer that has sent one",
				got, size)
		}
		time.Sleep(provenFor)
		if got := held(300_000); got > 600_000 {
			t.Errorf("%d bytes for the first 300000 of a message, of a peer that has sent one "+
				"long ago", got)
		}
	})
}

// The slab classes are those that slab.go documents.
func TestSlabClasses(t *testing.T) {
	var sizes []int
	for class := range slabPools {
		size := slabSize << (class / 2)
		if class%2 == 1 {
			size += size / 2
		}
		sizes = append(sizes, size)
	}
	if sizes[len(sizes)-1] != maxSlab {
		t.Errorf("the largest is %d, want %d", sizes[len(sizes)-1], maxSlab)
	}
	for class, size := range sizes {
		below := 0
		if class > 0 {
			below = sizes[class-1]
		}
		for _, n := range []int{below + 1, (below + size) / 2, size - 1, size} {
			if c, s := slabClass(n); c != class || s != size {
				t.Errorf("%d bytes are of class %d of %d bytes, want %d of %d", n, c, s, class,
					size)
			}
			want := below
			if n == size || n < slabSize {
				want = n
			}
			if got := slabBelow(n); got != want {
				t.Errorf("below %d is %d, want %d", n, got, want)
			}
		}
	}
	if c, s := slabClass(maxSlab + 1); c != -1 || s != maxSlab+1 || poolOf(maxSlab+1) != nil {
		t.Errorf("above the largest is class %d of %d bytes", c, s)
	}
}
