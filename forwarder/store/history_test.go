package store

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHistory compares the history with a slice that keeps all changes: it has the last ones, as
// many as fit, and gives whole Updates, or says that some are missing.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := (&Change{Entry: &Entry{}}).size()
		fit := rapid.IntRange(1, 3*historyBlock).Draw(t, "changes that fit")
		h := history{limit: int64(fit) * size}
		var all []Change
		for range rapid.IntRange(1, 20).Draw(t, "Updates") {
			n := rapid.SampledFrom([]int{1, 2, 100, historyBlock, 3*historyBlock + 1}).Draw(t, "changes")
			begin := len(all)
			for range n {
				all = append(all, Change{Entry: &Entry{Seq: uint64(len(all) + 1)}})
			}
			all[len(all)-1].Last = true
			h.append(all[begin:])

			kept := min(fit, len(all))
			if h.len() != kept || h.bytes != int64(kept)*size || h.last != uint64(len(all)) {
				t.Fatalf("%d changes, %d bytes, the last %d; want %d of %d", h.len(), h.bytes, h.last,
					kept, len(all))
			}
			after := rapid.IntRange(0, len(all)+1).Draw(t, "after")
			most := rapid.IntRange(1, 2*historyBlock).Draw(t, "most")
			got, ok := h.after(uint64(after), most)
			if ok != (after >= len(all)-kept && after <= len(all)) {
				t.Fatalf("after %d of %d, %d kept: %v", after, len(all), kept, ok)
			}
			if !ok {
				continue
			}
			want := all[after:]
			if len(want) > most {
				end := most
				for !want[end-1].Last {
					end++
				}
				want = want[:end]
			}
			if !slices.Equal(got, want) {
				t.Fatalf("after %d, at most %d: %d changes, want %d", after, most, len(got), len(want))
			}
		}
	})
}

// TestHistoryWithoutCopies: the history keeps its changes where they are when it grows.
func TestHistoryWithoutCopies(t *testing.T) {
	h := history{limit: 1 << 30}
	one := []Change{{Last: true, Entry: &Entry{}}}
	for range 100 * historyBlock {
		h.append(one)
	}
	first := &h.blocks[0][0]
	for range 900 * historyBlock {
		h.append(one)
	}
	if &h.blocks[0][0] != first {
		t.Error("the changes were copied")
	}
}
