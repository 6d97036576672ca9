package topics

import (
	"iter"
	"slices"
	"strings"
	"sync"
)

// A Table keeps the subscriptions of an XPUB as libzmq does: for matching, a set of subscribers a topic, in which one
// who subscribes twice is once and leaves with its first CANCEL. Beside that it counts SUBSCRIBEs less CANCELs for
// each subscriber and topic, so that what was told to others can be taken back exactly as often as it was told.
// The zero value is empty and ready for use. It must not be copied.
//
// All methods may be called from any goroutine. Those that change the Table exclude each other with a lock; those that
// only look at topics take none. Whoever turns each [Change] into a message for others has to hold a lock of his own
// over the change and the queueing of that message: else two changes of one topic may be told in the wrong order.
//
// A Table bounds nothing by itself. Length of topic and Count have to be checked before Subscribe.
type Table[P comparable] struct {
	trie Trie[P] // changed under mu

	mu sync.Mutex
	// accounts has what each subscriber asked for. An account without topics does not exist.
	accounts map[P]map[string]interest
}

// An interest is what one subscriber has said of one topic. One that is not held and counts nothing does not exist.
type interest struct {
	held  bool
	count int // SUBSCRIBEs less CANCELs, never below 0
}

// A Change says what a SUBSCRIBE or a CANCEL did. Fields not named for the one or the other are false then.
type Change struct {
	// Fresh, of a SUBSCRIBE: p did not hold the topic before, and so matching has changed.
	Fresh bool
	// First, of a SUBSCRIBE: nobody held the topic before.
	First bool
	// Held, of a CANCEL: p held the topic until now, and so matching has changed.
	Held bool
	// Last, of a CANCEL: p held the topic and nobody does any more.
	Last bool
	// Counted, of a CANCEL: it took back a SUBSCRIBE of p. One that is not counted answers no SUBSCRIBE, and must not
	// be told to others: there it would end a subscription of somebody else.
	Counted bool
	// Count is the number of SUBSCRIBEs of p for this topic that no CANCEL has taken back, after the change.
	Count int
}

// Removed is one topic of a subscriber that has gone.
type Removed struct {
	Topic string
	// Held: the subscriber was matched by this topic until now. If not, it had subscribed more than once and
	// cancelled, and Count is all there is to say.
	Held bool
	// Last: the subscriber held the topic and nobody does any more.
	Last bool
	// Count is the number of SUBSCRIBEs that no CANCEL has taken back, at least 1.
	Count int
}

// Cost returns about how many bytes of memory a Table needs for a topic of one subscriber.
func Cost[T string | []byte](topic T) int64 { return int64(len(topic)) + 256 }

// Subscribe does what a SUBSCRIBE of p asks for. It keeps a copy of topic, not topic itself.
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

// Cancel does what a CANCEL of p asks for. It keeps nothing of topic. A CANCEL of what p never subscribed to, or has
// cancelled as often as subscribed, gives the zero Change.
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

// Remove forgets p and returns what it leaves behind, in ascending order of topic. All of p's topics leave matching in
// one change.
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

// Has tells whether p has an account for topic: it holds it, or has subscribed to it more often than cancelled. A
// further SUBSCRIBE of it does not raise Count.
func (t *Table[P]) Has(p P, topic []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.accounts[p][string(topic)]
	return ok
}

// Count returns the number of distinct topics for which the Table keeps memory on behalf of p.
func (t *Table[P]) Count(p P) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.accounts[p])
}

// Root returns the present state for matching. See [Trie.Root].
func (t *Table[P]) Root() *Root[P] { return t.trie.Root() }

// Match appends to dst everyone whom a message with this topic reaches. See [Root.Match].
func (t *Table[P]) Match(dst []P, topic []byte) []P { return t.trie.Root().Match(dst, topic) }

// Topics ranges over the distinct topics that somebody holds at the time of the call, whatever changes meanwhile.
func (t *Table[P]) Topics() iter.Seq[string] { return t.trie.Root().Topics() }

// Len returns the number of distinct topics that somebody holds.
func (t *Table[P]) Len() int { return t.trie.Root().Len() }
