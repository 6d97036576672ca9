package topics

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A model does what a Table should do, in the most obvious way: with one list that is searched from
// end to end.
type model []modelEntry

type modelEntry struct {
	p     int
	topic string
	held  bool
	count int
}

func (m *model) get(p int, topic string) *modelEntry {
	for i := range *m {
		if e := &(*m)[i]; e.p == p && e.topic == topic {
			return e
		}
	}
	return nil
}

func (m *model) holders(topic string) (n int) {
	for _, e := range *m {
		if e.held && e.topic == topic {
			n++
		}
	}
	return n
}

func (m *model) dropEmpty() {
	*m = slices.DeleteFunc(*m, func(e modelEntry) bool { return !e.held && e.count == 0 })
}

func (m *model) subscribe(p int, topic string) Change {
	e := m.get(p, topic)
	if e == nil {
		*m = append(*m, modelEntry{p: p, topic: topic})
		e = m.get(p, topic)
	}
	c := Change{Fresh: !e.held, First: m.holders(topic) == 0}
	e.held = true
	e.count++
	c.Count = e.count
	return c
}

func (m *model) cancel(p int, topic string) Change {
	e := m.get(p, topic)
	if e == nil {
		return Change{}
	}
	c := Change{Held: e.held, Counted: true, Count: e.count - 1}
	c.Last = e.held && m.holders(topic) == 1
	e.held = false
	e.count--
	m.dropEmpty()
	return c
}

func (m *model) remove(p int) (gone []Removed) {
	for i := range *m {
		if e := &(*m)[i]; e.p == p {
			gone = append(gone, Removed{e.topic, e.held, e.held && m.holders(e.topic) == 1,
				e.count})
			e.held, e.count = false, 0
		}
	}
	m.dropEmpty()
	slices.SortFunc(gone, func(a, b Removed) int { return strings.Compare(a.Topic, b.Topic) })
	return gone
}

func (m *model) match(topic string) []int {
	set := map[int]bool{}
	for _, e := range *m {
		if e.held && strings.HasPrefix(topic, e.topic) {
			set[e.p] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (m *model) topics() []string {
	set := map[string]bool{}
	for _, e := range *m {
		if e.held {
			set[e.topic] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (m *model) count(p int) (n int) {
	for _, e := range *m {
		if e.p == p {
			n++
		}
	}
	return n
}

// topicGen draws from few letters, so that topics share prefixes, extend each other and occur
// again.
var topicGen = rapid.SliceOfN(rapid.SampledFrom([]byte{'a', 'b', 0, 0xff}), 0, 6)

func TestTableAnswersAsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table[int]
		var m model
		peer := rapid.IntRange(0, 5)
		// past is an earlier root, with the answers that it must go on giving
		type past struct {
			root   *Root[int]
			topics []string
			topic  []byte
			match  []int
		}
		var pasts []past
		keep := func(topic []byte) {
			pasts = append(pasts, past{table.Root(), m.topics(), topic, m.match(string(topic))})
		}
		same := func(t *rapid.T, got, want Change) {
			if got != want {
				t.Fatalf("the change is %+v, want %+v", got, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				p, topic := peer.Draw(t, "p"), topicGen.Draw(t, "topic")
				before := table.Root()
				got := table.Subscribe(p, topic)
				same(t, got, m.subscribe(p, string(topic)))
				if (table.Root() != before) != got.Fresh {
					t.Fatalf("the root has changed: %v, but Fresh is %v", table.Root() != before,
						got.Fresh)
				}
				clear(topic) // the table must have its own copy
			},
			"cancel": func(t *rapid.T) {
				p, topic := peer.Draw(t, "p"), topicGen.Draw(t, "topic")
				before := table.Root()
				got := table.Cancel(p, topic)
				same(t, got, m.cancel(p, string(topic)))
				if (table.Root() != before) != got.Held {
					t.Fatalf("root changed: %v, but Held is %v", table.Root() != before, got.Held)
				}
			},
			"subscribe to many": func(t *rapid.T) {
				p := peer.Draw(t, "p")
				for _, topic := range rapid.SliceOfN(topicGen, 1, 20).Draw(t, "topics") {
					same(t, table.Subscribe(p, topic), m.subscribe(p, string(topic)))
				}
			},
			"cancel one of its own": func(t *rapid.T) {
				if len(m) == 0 {
					t.Skip("nothing subscribed")
				}
				e := rapid.SampledFrom(m).Draw(t, "entry")
				same(t, table.Cancel(e.p, []byte(e.topic)), m.cancel(e.p, e.topic))
			},
			"remove": func(t *rapid.T) {
				p := peer.Draw(t, "p")
				// a change of many topics shares most with an earlier root
				keep(topicGen.Draw(t, "topic"))
				before, effective := table.Root(), false
				got, want := table.Remove(p), m.remove(p)
				if !slices.Equal(got, want) {
					t.Fatalf("removed %+v, want %+v", got, want)
				}
				for _, r := range got {
					effective = effective || r.Held
				}
				if (table.Root() != before) != effective {
					t.Fatalf("the root has changed: %v, but matching: %v", table.Root() != before,
						effective)
				}
			},
			"keep a root": func(t *rapid.T) {
				keep(topicGen.Draw(t, "topic"))
			},
			"": func(t *rapid.T) {
				if got, want := slices.Collect(table.Topics()),
					m.topics(); !slices.Equal(got, want) {
					t.Fatalf("topics are %q, want %q", got, want)
				}
				if got, want := table.Len(), len(m.topics()); got != want {
					t.Fatalf("Len is %d, want %d", got, want)
				}
				topic := topicGen.Draw(t, "match")
				asked := bytes.Clone(topic)
				got := table.Match([]int{-1}, topic)
				if !bytes.Equal(topic, asked) {
					t.Fatal("Match changed the topic")
				}
				if got[0] != -1 {
					t.Fatal("Match has overwritten dst")
				}
				got = got[1:]
				slices.Sort(got)
				if want := m.match(string(topic)); !slices.Equal(got, want) {
					t.Fatalf("%q matches %v, want %v", topic, got, want)
				}
				if table.Root().Any(topic) != (len(got) > 0) {
					t.Fatalf("Any(%q) is wrong, Match returns %v", topic, got)
				}
				p := peer.Draw(t, "account")
				if got, want := table.Count(p), m.count(p); got != want {
					t.Fatalf("Count(%d) is %d, want %d", p, got, want)
				}
				if got, want := table.Has(p, topic), m.get(p, string(topic)) != nil; got != want {
					t.Fatalf("Has(%d, %q) is %v, want %v", p, topic, got, want)
				}
				for _, past := range pasts {
					got := past.root.Match(nil, past.topic)
					slices.Sort(got)
					if !slices.Equal(got, past.match) ||
						!slices.Equal(slices.Collect(past.root.Topics()), past.topics) {
						t.Fatal("a root has changed after it was published")
					}
				}
				checkShape(t, &table.trie)
			},
		})
	})
}

// checkShape checks the invariants of the trie.
func checkShape(t interface{ Fatalf(string, ...any) }, trie *Trie[int]) {
	r := trie.Root()
	if r == nil {
		return
	}
	topics, subscriptions := 0, 0
	var check func(n *node[int], root bool)
	check = func(n *node[int], root bool) {
		if (n.label == "") != root {
			t.Fatalf("label %q, root %v", n.label, root)
		}
		if !root && len(n.subs) == 0 && len(n.children) < 2 {
			t.Fatalf("node %q has no subscriber and %d children", n.label, len(n.children))
		}
		if len(n.first) != len(n.children) {
			t.Fatalf("%d first bytes for %d children", len(n.first), len(n.children))
		}
		for i, c := range n.children {
			if c.label[0] != n.first[i] || i > 0 && n.first[i] <= n.first[i-1] {
				t.Fatalf("children of %q are out of order: %q", n.label, n.first)
			}
			check(c, false)
		}
		if len(n.subs) > 0 {
			topics++
		}
		for i, e := range n.subs {
			subscriptions++
			if i > 0 && e.id <= n.subs[i-1].id || e.id >= r.limit {
				t.Fatalf("ids of %q are out of order or not below %d: %v", n.label, r.limit, n.subs)
			}
			if trie.members[e.p].id != e.id {
				t.Fatalf("id of %v is %d, want %d", e.p, e.id, trie.members[e.p].id)
			}
		}
	}
	check(&r.top, true)
	if topics != r.topics {
		t.Fatalf("%d topics, Len says %d", topics, r.topics)
	}
	for _, m := range trie.members {
		subscriptions -= m.topics
	}
	if subscriptions != 0 {
		t.Fatalf("subscriptions and the members' counts differ by %d", subscriptions)
	}
	if len(trie.members)+len(trie.free) != int(trie.limit) {
		t.Fatalf("%d members and %d free ids of %d", len(trie.members), len(trie.free), trie.limit)
	}
}
