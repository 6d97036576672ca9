// Package topics keeps the subscriptions of a publisher: which subscriber has which topics, and
// which subscribers receive a message. It knows nothing of sockets.
//
// A topic is a byte string. A subscription matches every message whose first part begins with the
// topic; the empty topic matches every message (RFC 29, "The PUB socket type"). [Trie] finds the
// subscribers of a message. [Table] adds the counts that an XPUB needs to report subscriptions.
//
// There is one writer at a time and any number of readers. The writer never changes what a reader
// can see: it copies the nodes from the root to the place of the change, and publishes the copy
// with one atomic store. A reader takes no lock, never waits, and sees a change either completely
// or not at all. [Root] is such a published state. As long as the pointer to it is the same,
// matching gives the same results, and a reader may cache them.
//
// A change copies one path: the nodes above the topic, at most one for each of its bytes and
// usually far fewer, and the list of the topic's subscribers. Matching follows the topic of the
// message once and without recursion, so a long topic costs no stack.
package topics
