// Package topics holds the subscriptions of a publisher: which subscriber asked for which topic,
// and which subscribers receive a message. It does not know sockets.
//
// A topic is a byte string. A subscription matches every message whose first part begins with the
// topic; the empty topic matches everything (RFC 29, "The PUB socket type"). [Trie] finds the
// subscribers of a message. [Table] adds the counts with which an XPUB tells others what its
// subscribers want.
//
// There is one writer at a time and any number of readers. The writer never changes what a reader
// can see: it copies the nodes from the root to the place of the change, and publishes the copy
// with one atomic store. A reader takes no lock, never waits, and sees all of a change or nothing
// of it. [Root] is such a published state. While the pointer to it is the same, matching has not
// changed, and a reader may cache results.
//
// A change copies one path: the nodes above the topic, at most one for each of its bytes and
// usually far fewer, and the list of subscribers of the topic. Matching follows the topic of the
// message once and without recursion, so a long topic costs no stack.
package topics
