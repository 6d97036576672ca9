package topics

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestEmpty(t *testing.T) {
	var table Table[int]
	if got := table.Match(nil, []byte("a")); got != nil {
		t.Errorf("an empty table matches %v", got)
	}
	if table.Root() != nil || table.Root().Any(nil) || table.Len() != 0 || table.Count(1) != 0 {
		t.Error("an empty table is not empty")
	}
	for topic := range table.Topics() {
		t.Errorf("an empty table has topic %q", topic)
	}
	if c := table.Cancel(1, []byte("a")); c != (Change{}) {
		t.Errorf("CANCEL at an empty table: %+v", c)
	}
	if gone := table.Remove(1); gone != nil {
		t.Errorf("removal from an empty table: %+v", gone)
	}
	if held, last := new(Trie[int]).Delete(1, "a"); held || last {
		t.Error("Delete found a subscription in an empty trie")
	}
}

// libzmq's XPUB keeps a set of topics for each pipe, which one CANCEL leaves (mtrie). A CANCEL that
// removes nothing may be passed on only while there were more SUBSCRIBEs than CANCELs.
func TestTwiceSubscribed(t *testing.T) {
	var table Table[string]
	a := []byte("A")
	steps := []struct {
		what   string
		got    Change
		want   Change
		reach  int
		counts int
	}{
		{"SUBSCRIBE", table.Subscribe("p", a), Change{Fresh: true, First: true, Count: 1}, 1, 1},
		{"SUBSCRIBE again", table.Subscribe("p", a), Change{Count: 2}, 1, 1},
		{"CANCEL", table.Cancel("p", a), Change{Held: true, Last: true, Counted: true, Count: 1}, 0,
			1},
		{"CANCEL again", table.Cancel("p", a), Change{Counted: true}, 0, 0},
		{"CANCEL without SUBSCRIBE", table.Cancel("p", a), Change{}, 0, 0},
	}
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: %+v, want %+v", s.what, s.got, s.want)
		}
	}

	// A topic that was passed on twice must be cancelled twice when the peer goes.
	table.Subscribe("p", a)
	table.Subscribe("p", a)
	table.Subscribe("p", []byte("B"))
	table.Subscribe("p", []byte("B"))
	table.Cancel("p", []byte("B"))
	table.Subscribe("q", a)
	want := []Removed{{"A", true, false, 2}, {"B", false, false, 1}}
	if got := table.Remove("p"); !slices.Equal(got, want) {
		t.Errorf("removed %+v, want %+v", got, want)
	}
	if got := table.Remove("q"); !slices.Equal(got, []Removed{{"A", true, true, 1}}) {
		t.Errorf("removed %+v", got)
	}
	if table.Len() != 0 || len(table.accounts) != 0 || len(table.trie.members) != 0 {
		t.Error("the table is not empty after all subscribers have gone")
	}
}

// A subscriber of several prefixes of a topic gets a message once, for both small and large sets of
// subscribers: Match keeps a small set on its stack.
func TestMatchOnce(t *testing.T) {
	for _, peers := range []int{1, 64, 65, idWords * 64, idWords*64 + 1} {
		var table Table[int]
		for p := range peers {
			table.Subscribe(p, nil)
			table.Subscribe(p, []byte("zeek."))
			if p%2 == 0 {
				table.Subscribe(p, []byte("zeek.cluster"))
			}
		}
		got := table.Match(nil, []byte("zeek.cluster.node"))
		slices.Sort(got)
		if len(got) != peers || len(slices.Compact(got)) != peers {
			t.Errorf("%d peers: %d matches", peers, len(got))
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	var table Table[int]
	for p := range 64 {
		table.Subscribe(p, []byte("zeek.cluster."))
		table.Subscribe(p, []byte("zeek."))
		table.Subscribe(p, fmt.Appendf(nil, "zeek.cluster.node.%d", p))
	}
	dst := make([]int, 0, 64)
	topic := []byte("zeek.cluster.node.1")
	if n := testing.AllocsPerRun(100, func() {
		if dst = table.Match(dst[:0], topic); len(dst) != 64 {
			t.Fatalf("matched %d", len(dst))
		}
	}); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

// Match follows a topic of any length without recursion.
func TestLongTopics(t *testing.T) {
	var table Table[int]
	long := bytes.Repeat([]byte{'x'}, 1<<20)
	table.Subscribe(1, long)
	if got := table.Match(nil, long); len(got) != 1 {
		t.Errorf("long topic matched %v", got)
	}
	if got := table.Match(nil, long[:len(long)-1]); len(got) != 0 {
		t.Errorf("shorter topic matched %v", got)
	}
	// a chain of nodes as deep as the topic is long
	const depth = 1500
	for i := range depth {
		table.Subscribe(2, long[:i])
	}
	if got := slices.Sorted(slices.Values(table.Match(nil, long))); !slices.Equal(got,
		[]int{1, 2}) {
		t.Errorf("deep chain matched %v", got)
	}
	n := 0
	for range table.Topics() {
		n++
	}
	if n != depth+1 || table.Len() != n {
		t.Errorf("%d topics, Len %d, want %d", n, table.Len(), depth+1)
	}
	if gone := table.Remove(2); len(gone) != depth {
		t.Errorf("removed %d topics, want %d", len(gone), depth)
	}
	if table.Len() != 1 {
		t.Errorf("%d topics left, want 1", table.Len())
	}
	if n := len(table.Root().top.children); n != 1 ||
		len(table.Root().top.children[0].label) != len(long) {
		t.Error("more than one node is left of a deep chain")
	}
}

// Readers use roots while others change the table. They see the effect of one call completely or
// not at all: all of "a", "ab" and "b" leave together.
func TestConcurrentReaders(t *testing.T) {
	var table Table[int]
	const always = 1000
	table.Subscribe(always, []byte("a"))
	var done atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for range 3000 {
				p := w*10 + random.IntN(10)
				long := strings.Repeat("ab", random.IntN(20))
				for _, topic := range []string{"", "ab", "b", long} {
					table.Subscribe(p, []byte(topic))
				}
				if random.IntN(2) == 0 {
					table.Cancel(p, []byte("ab"))
				}
				table.Remove(p)
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			var dst []int
			for !done.Load() {
				r := table.Root()
				dst = r.Match(dst[:0], []byte("abab"))
				if !slices.Contains(dst, always) {
					t.Error("a subscription that was there all the time does not match")
					return
				}
				slices.Sort(dst)
				if len(slices.Compact(dst)) != len(dst) {
					t.Error("a subscriber is matched twice")
					return
				}
				n := 0
				for range r.Topics() {
					n++
				}
				if n != r.Len() {
					t.Errorf("%d topics, Len says %d", n, r.Len())
					return
				}
				// All other subscribers begin with "" and are removed by one call.
				if rest := r.Match(nil, nil); len(rest) != len(dst)-1 {
					t.Errorf("part of a removal is visible: %d and %d", len(rest), len(dst)-1)
					return
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if got := slices.Collect(table.Topics()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("left over: %q", got)
	}
}
