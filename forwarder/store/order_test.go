package store

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestOrder compares the order of keys with a sorted slice, while keys come and go at random, in
// order and in great numbers.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEntries()
		model := map[string]bool{}
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			add := rapid.IntRange(0, 2).Draw(t, "remove") > 0
			from := rapid.IntRange(0, 3000).Draw(t, "from")
			step := rapid.SampledFrom([]int{1, 1, -1, 7}).Draw(t, "step")
			for i := range rapid.IntRange(1, 900).Draw(t, "keys") {
				key := Text(fmt.Sprintf("%05d", 10_000+from+i*step))
				if add {
					e.set(key, &Entry{Key: key})
					model[string(key)] = true
				} else {
					e.set(key, nil)
					delete(model, string(key))
				}
			}
		}
		var want []string
		for key := range model {
			want = append(want, key)
		}
		slices.Sort(want)
		first := Text(fmt.Sprintf("%05d", 10_000+rapid.IntRange(0, 5000).Draw(t, "first")))
		for _, from := range [][]byte{nil, first} {
			for len(want) > 0 && want[0] < string(from) {
				want = want[1:]
			}
			var got []string
			for entry := range e.order.from(from) {
				got = append(got, string(entry.Key))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("from %q: %d keys, want %d", from, len(got), len(want))
			}
		}
		for i, b := range e.order {
			small := i+1 < len(e.order) && len(b)+len(e.order[i+1]) <= blockSize/4
			if len(b) == 0 || len(b) > blockSize || small && len(e.order) > len(model)/8+2 {
				t.Fatalf("block %d of %d has %d keys", i, len(e.order), len(b))
			}
		}
	})
}
