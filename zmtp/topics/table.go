package topics

import (
	"iter"
	"slices"
	"strings"
	"sync"
)

// A Table keeps the subscriptions of an XPUB as libzmq does. For matching, each topic has a set of
// subscribers: a subscriber that subscribes twice is in it once, and leaves it with its first
// CANCEL. Besides, the Table counts SUBSCRIBEs minus CANCELs for each subscriber and topic, so that
// an XPUB can cancel a subscription upstream as often as it was passed on. The zero value is empty
// and ready for use. A Table must not be copied.
//
// All methods are safe for concurrent use. Those that change the Table take a lock; those that
// match do not. A caller that passes each [Change] on must hold a lock of its own while it changes
// the Table and queues the message. Otherwise two changes of one topic may go out in the wrong
// order.
//
// A Table has no limits. Check the length of the topic and Count before Subscribe.
type Table[P comparable] struct {
	trie Trie[P] // changed under mu

	mu sync.Mutex
	// accounts has the topics of each subscriber. A subscriber without topics has no account.
	accounts map[P]map[string]interest
}

// An interest is what one subscriber has asked for one topic. It is held or has a count above 0.
type interest struct {
	held  bool
	count int // SUBSCRIBEs minus CANCELs, never below 0
}

// A Change is the effect of a SUBSCRIBE or a CANCEL. A field is false for the command that its
// comment does not name.
type Change struct {
	// Fresh (SUBSCRIBE): p did not hold the topic before, so matching has changed.
	Fresh bool
	// First (SUBSCRIBE): no subscriber held the topic before.
	First bool
	// Held (CANCEL): p held the topic until now, so matching has changed.
	Held bool
	// Last (CANCEL): p held the topic, and no subscriber does any more.
	Last bool
	// Counted (CANCEL): it took back a SUBSCRIBE of p. Any other CANCEL must not be passed on:
	// upstream it would end the subscription of another subscriber.
	Counted bool
	// Count is the number of SUBSCRIBEs of p for this topic that no CANCEL has taken back, after
	// the change.
	Count int
}

// Removed is one topic of a subscriber that was removed.
type Removed struct {
	Topic string
	// Held: the subscriber received this topic until now. If not, it had still subscribed more
	// often than cancelled; see Count.
	Held bool
	// Last: the subscriber held the topic, and no subscriber does any more.
	Last bool
	// Count is the number of SUBSCRIBEs that no CANCEL has taken back, at least 1.
	Count int
}

// Cost estimates the memory that a Table needs for a topic of one subscriber, in bytes.
func Cost[T string | []byte](topic T) int64 { return int64(len(topic)) + 256 }

// Subscribe applies a SUBSCRIBE of p. It keeps a copy of topic.
func (t *Table[P]) Subscribe(p P, topic []byte) Change {
	key := string(topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	account := t.accounts[p]
	if account == nil {
		account = make(map[string]interest)
		if t.accounts == nil {
			t.accounts = make(map[P]map[string]interest)
		}
		t.accounts[p] = account
	}
	in := account[key]
	in.count++
	c := Change{Count: in.count}
	if !in.held {
		in.held = true
		c.Fresh, c.First = t.trie.Add(p, key)
	}
	account[key] = in
	return c
}

// Cancel applies a CANCEL of p. It does not keep topic. If p has no SUBSCRIBE of the topic that a
// CANCEL has not taken back, the Change is zero.
func (t *Table[P]) Cancel(p P, topic []byte) Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	account := t.accounts[p]
	in, known := account[string(topic)]
	if !known {
		return Change{}
	}
	key := string(topic)
	in.count--
	c := Change{Counted: true, Count: in.count}
	if in.held {
		in.held = false
		c.Held, c.Last = t.trie.Delete(p, key)
	}
	if in.count > 0 {
		account[key] = in
		return c
	}
	delete(account, key)
	if len(account) == 0 {
		delete(t.accounts, p)
	}
	return c
}

// Remove removes p and returns its topics in ascending order. They leave matching in one change.
func (t *Table[P]) Remove(p P) []Removed {
	t.mu.Lock()
	defer t.mu.Unlock()
	account := t.accounts[p]
	if account == nil {
		return nil
	}
	delete(t.accounts, p)
	gone := make([]Removed, 0, len(account))
	for topic, in := range account {
		gone = append(gone, Removed{Topic: topic, Held: in.held, Count: in.count})
	}
	slices.SortFunc(gone, func(a, b Removed) int { return strings.Compare(a.Topic, b.Topic) })
	t.trie.deleteAll(p, gone)
	return gone
}

// Has reports whether the Table has an account of p for topic: p holds it, or has subscribed to it
// more often than cancelled. Then another SUBSCRIBE does not raise [Table.Count].
func (t *Table[P]) Has(p P, topic []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.accounts[p][string(topic)]
	return ok
}

// Count returns the number of distinct topics for which the Table has an account of p.
func (t *Table[P]) Count(p P) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.accounts[p])
}

// Root returns the current state for matching. See [Trie.Root].
func (t *Table[P]) Root() *Root[P] { return t.trie.Root() }

// Match appends the subscribers of a message with this topic to dst. See [Root.Match].
func (t *Table[P]) Match(dst []P, topic []byte) []P { return t.trie.Root().Match(dst, topic) }

// Topics returns an iterator over the distinct topics that have subscribers at the time of the
// call.
func (t *Table[P]) Topics() iter.Seq[string] { return t.trie.Root().Topics() }

// Len returns the number of distinct topics that have subscribers.
func (t *Table[P]) Len() int { return t.trie.Root().Len() }
