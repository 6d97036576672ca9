package zmtp

import "testing"

// TestSlabFollowsReads: only a peer that sends large messages without a pause gets a large slab, and it loses it.
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
			t.Errorf("%s: %d bytes after %d full reads, want %d", c.name, rd.size, fullReads, c.want)
		}
		read(rd, 64*4, false)
		if rd.size != minReadBuffer {
			t.Errorf("%s: %d bytes after small reads", c.name, rd.size)
		}
	}
}

// TestSharedMemoryIsCounted: what an outbox keeps of a slab pins at most four times what it counts.
func TestSharedMemoryIsCounted(t *testing.T) {
	for _, size := range []int{slabSize, largeSlab, 4 * largeSlab} {
		b := &Batch{slab: newSlab(size), spans: []span{{0, size/4 - 1, 1, size/4 - 1}, {size / 2, size/2 + size/4, 1, size / 4}}}
		o := newOutbox(0, 0)
		if n := o.offer(b, []Run{{0, 1}, {1, 2}}); n != 2 {
			t.Fatalf("took %d", n)
		}
		queued := o.chunks.all()
		if len(queued) != 2 || queued[0].slab != nil || queued[1].slab != b.slab {
			t.Errorf("slab of %d bytes: a run below a quarter has to be copied, a quarter shared: %+v", size, len(queued))
		}
	}
}
