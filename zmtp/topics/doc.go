// Package topics keeps the subscriptions of a publisher: which subscriber asked for which topic, and who receives a
// message. It knows nothing of sockets.
//
// A topic is a byte string, and a subscription to it matches every message whose first part begins with it; the empty
// topic matches everything (RFC 29, "The PUB socket type"). [Trie] answers "who receives this"; [Table] adds the books
// that an XPUB needs to tell others truthfully what its subscribers want.
//
// There is one writer at a time and any number of readers. The writer never changes what a reader can see: it copies
// the nodes from the root to the place of the change and publishes the copy with one atomic store. A reader therefore
// takes no lock, never waits, and sees either all of a change or nothing of it. [Root] is such a published state. As
// long as the pointer is the same, nothing about matching has changed, and a reader may keep what it found before.
//
// The cost of a change is that of copying one path: the nodes above the topic, at most one for each of its bytes and far
// fewer unless somebody has subscribed to every prefix of it, and the topic's list of subscribers. Matching walks the
// message's topic once, without recursion, and so a topic of any length costs no stack.
package topics
