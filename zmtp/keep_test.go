package zmtp

import (
	"bytes"
	"fmt"
	"testing"
)

// Keep returns the messages of the runs. It shares their memory if that pins little, and copies
// them otherwise. They outlive the batch.
func TestBatchKeep(t *testing.T) {
	for _, c := range []struct {
		slab   int
		shared bool
	}{{256, true}, {slabSize, false}} {
		var wire []byte
		b := &Batch{slab: newSlab(c.slab)}
		for i := range 10 {
			start := len(wire)
			wire = AppendMessage(wire, []byte("topic"), fmt.Appendf(nil, "body %d", i))
			b.spans = append(b.spans, span{start, len(wire), 2, 11})
		}
		copy(b.slab.buf, wire)
		k := b.Keep([]Run{{1, 3}, {4, 5}, {6, 10}})
		if shared := k.slab == b.slab; shared != c.shared {
			t.Errorf("slab of %d bytes shared: %v", c.slab, shared)
		}
		first := b.slab
		b.Release()
		if !c.shared && first.refs.Load() != 0 || c.shared && first.refs.Load() != 1 {
			t.Errorf("slab of %d bytes has %d references", c.slab, first.refs.Load())
		}
		want := []int{1, 2, 4, 6, 7, 8, 9}
		if k.Len() != len(want) {
			t.Fatalf("%d messages, want %d", k.Len(), len(want))
		}
		for i, n := range want {
			m := NewMessageString("topic", fmt.Sprint("body ", n))
			if !bytes.Equal(k.Message(i).Wire(), m.Wire()) || string(k.Topic(i)) != "topic" {
				t.Errorf("message %d is %q, want %q", i, k.Message(i).Wire(), m.Wire())
			}
		}
		if parts, size := k.Counts(0, k.Len()); parts != 14 || size != 77 {
			t.Errorf("%d parts of %d bytes", parts, size)
		}
		k.Release()
	}
}
