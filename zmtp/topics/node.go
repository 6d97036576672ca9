package topics

import (
	"slices"
	"strings"
)

// A node is a place in the path-compressed trie. A published node never changes.
type node[P comparable] struct {
	// label is the part that the topics below have in common, behind the parent's part. Only the
	// root's is empty.
	label string
	// subs are the subscribers of the topic that ends here, by id. A node without subscribers has
	// at least two children, unless it is the root.
	subs []entry[P]
	// first has the first byte of each child's label, ascending. children has the same order.
	first    string
	children []*node[P]
	// gen is the change that made this node. Until that change is published, the writer may modify
	// the node in place, so that a change of many topics copies each node only once.
	gen uint64
}

// An entry is a subscriber and a small number by which Match recognises it. Ids are unique in one
// Root.
type entry[P comparable] struct {
	p  P
	id uint32
}

func compareID[P comparable](e entry[P], id uint32) int {
	switch {
	case e.id < id:
		return -1
	case e.id > id:
		return 1
	}
	return 0
}

// find returns the node of exactly this topic, or nil. The node may have no subscribers.
func (n *node[P]) find(topic string) *node[P] {
	for len(topic) > 0 {
		i := n.index(topic[0])
		if i < 0 {
			return nil
		}
		n = n.children[i]
		if !strings.HasPrefix(topic, n.label) {
			return nil
		}
		topic = topic[len(n.label):]
	}
	return n
}

// holds reports whether the subscriber with this id is in n.subs.
func (n *node[P]) holds(id uint32) bool {
	if n == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(n.subs, id, compareID[P])
	return ok
}

// own returns child i of n. If an earlier change made the child, own replaces it by a copy. n must
// be of gen.
func (n *node[P]) own(i int, gen uint64) *node[P] {
	c := n.children[i]
	if c.gen != gen {
		c = c.clone(gen)
		n.children[i] = c
	}
	return c
}

func (n *node[P]) clone(gen uint64) *node[P] {
	c := *n
	c.children = slices.Clone(n.children)
	c.gen = gen
	return &c
}

// descend returns the node of exactly this topic below n, and creates it if it is missing. Every
// node on the way is then of gen.
func (n *node[P]) descend(topic string, gen uint64) *node[P] {
	for len(topic) > 0 {
		i := n.index(topic[0])
		if i < 0 {
			c := &node[P]{label: topic, gen: gen}
			n.insertChild(c)
			return c
		}
		n = n.own(i, gen)
		common := commonPrefix(n.label, topic)
		if common < len(n.label) {
			n.split(common)
		}
		topic = topic[common:]
	}
	return n
}

func (n *node[P]) insertChild(c *node[P]) {
	b := c.label[0]
	i := 0
	for i < len(n.first) && n.first[i] < b {
		i++
	}
	// string(b) would be the UTF-8 form of the code point b
	n.first = n.first[:i] + c.label[:1] + n.first[i:]
	n.children = slices.Insert(n.children, i, c)
}

// split cuts n's label. n keeps the first at bytes, and a new child gets the rest.
func (n *node[P]) split(at int) {
	c := *n
	c.label = n.label[at:]
	n.first = c.label[:1]
	n.children = []*node[P]{&c}
	n.subs = nil
	// A label shares memory with the topic from which it was cut. Without a copy, a short label
	// would keep a long topic in memory after its last subscriber has gone.
	n.first = strings.Clone(n.first)
	n.label = strings.Clone(n.label[:at])
}

// prune restores the rule that a node without subscribers has at least two children, after child i
// of n has lost its last subscriber. Both are of the current gen. root says that n is the root,
// which always stays.
func (n *node[P]) prune(i int, root bool) {
	c := n.children[i]
	switch len(c.children) {
	case 0:
		n.first = n.first[:i] + n.first[i+1:]
		n.children = slices.Delete(n.children, i, i+1)
		if !root && len(n.subs) == 0 && len(n.children) == 1 {
			n.merge()
		}
	case 1:
		c.merge()
	}
}

// merge replaces n by its only child.
func (n *node[P]) merge() {
	c := n.children[0]
	n.label += c.label
	n.subs = c.subs
	n.first = c.first
	// The child may be published already, and n may change again before it is.
	n.children = slices.Clone(c.children)
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// index returns the index of the child whose label begins with b, or -1.
func (n *node[P]) index(b byte) int { return strings.IndexByte(n.first, b) }

// step returns the next node on the way to topic, and the rest of topic below that node. topic is
// the rest below n. At the end step returns nil.
func (n *node[P]) step(topic []byte) (*node[P], []byte) {
	if len(topic) == 0 {
		return nil, nil
	}
	i := n.index(topic[0])
	if i < 0 {
		return nil, nil
	}
	c := n.children[i]
	if len(topic) < len(c.label) || string(topic[:len(c.label)]) != c.label {
		return nil, nil
	}
	return c, topic[len(c.label):]
}
