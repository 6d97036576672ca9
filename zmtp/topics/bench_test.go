package topics

import (
	"fmt"
	"testing"
)

// randomKeys returns the keys of libzmq's benchmark_radix_tree: 10,000 of 20 characters out of 36,
// from std::minstd_rand seeded with 123456789.
func randomKeys(n int) [][]byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	state := uint64(123456789)
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = make([]byte, 20)
		for j := range keys[i] {
			state = state * 48271 % (1<<31 - 1)
			keys[i][j] = alphabet[state*uint64(len(alphabet))/(1<<31-1)]
		}
	}
	return keys
}

// sharedPrefixKeys returns topics like those of a large cluster: long, with common beginnings.
func sharedPrefixKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "zeek.cluster.nodeid.zeek_worker-%d_host_", i)
	}
	return keys
}

func tableOf(keys [][]byte) *Table[int] {
	t := new(Table[int])
	for i, k := range keys {
		t.Subscribe(i%64, k)
	}
	return t
}

func BenchmarkLookup(b *testing.B) {
	for _, bm := range []struct {
		name string
		keys [][]byte
	}{
		{"radix_tree", randomKeys(10_000)},
		{"shared_prefix", sharedPrefixKeys(10_000)},
		{"100k", randomKeys(100_000)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			t := tableOf(bm.keys)
			var dst []int
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				dst = t.Match(dst[:0], bm.keys[i%len(bm.keys)])
			}
			if len(dst) != 1 {
				b.Fatal(dst)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	topic := []byte("zeek.cluster.worker.host-1")
	for _, peers := range []int{1, 64, 2000} {
		for _, prefixes := range []int{1, 2} {
			b.Run(fmt.Sprintf("subscribers=%d/prefixes=%d", peers, prefixes), func(b *testing.B) {
				var t Table[int]
				for p := range peers {
					t.Subscribe(p, topic[:20])
					if prefixes > 1 {
						t.Subscribe(p, topic[:5])
					}
				}
				var dst []int
				b.ReportAllocs()
				for b.Loop() {
					dst = t.Match(dst[:0], topic)
				}
				if len(dst) != peers {
					b.Fatal(len(dst))
				}
			})
		}
	}
}

// BenchmarkChange subscribes and cancels one topic among many.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", n), func(b *testing.B) {
			keys := randomKeys(n)
			t := tableOf(keys)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := keys[i%n]
				t.Cancel(i%n%64, k)
				t.Subscribe(i%n%64, k)
			}
		})
	}
	b.Run("subscribers=2000", func(b *testing.B) {
		var t Table[int]
		for p := range 2000 {
			t.Subscribe(p, []byte("zeek."))
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			t.Cancel(i%2000, []byte("zeek."))
			t.Subscribe(i%2000, []byte("zeek."))
		}
	})
}

// BenchmarkRemove removes a subscriber with 100,000 topics.
func BenchmarkRemove(b *testing.B) {
	keys := randomKeys(100_000)
	for b.Loop() {
		b.StopTimer()
		var t Table[int]
		for _, k := range keys {
			t.Subscribe(1, k)
		}
		b.StartTimer()
		if gone := t.Remove(1); len(gone) != len(keys) {
			b.Fatal(len(gone))
		}
	}
}
