// Package forwarder is the broker in the middle of a Zeek cluster: publishers connect to its XSUB side, subscribers to its
// XPUB side, and what one publishes reaches those who subscribed a prefix of its first part. It takes the place of
// libzmq's proxy between an XSUB and an XPUB with ZMQ_XPUB_VERBOSER.
//
// # A message
//
//  1. The publisher's read goroutine calls Receive with a batch, the messages of one read (publisher.go).
//  2. It finds the subscribers of each message's topic, in its own cache (route.go) or in the table of subscriptions.
//     Adjacent messages for the same subscriber become one run.
//  3. Each subscriber that is concerned is offered its runs, once a batch. The bytes are copied as they came.
//  4. For those who did not take everything the policy decides (overload.go). If that is to wait, the publisher's
//     goroutine does, and reads no more meanwhile: that is the back-pressure.
//
// There is no goroutine between the reader of one connection and the writer of the other.
//
// # A subscription
//
// A publisher keeps, for each connection, a set of topics, and the broker is one connection to it. So every SUBSCRIBE is
// told to all publishers, which is what Zeek nodes learn of each other from, but a CANCEL only when the last
// subscriber of the topic is gone (subscriber.go). A publisher that comes later is first told all topics there are.
//
// # Locks
//
// Forwarder.mu is held over a change of the subscriptions and telling it, so that every publisher sees the same order and a
// new one misses nothing and gets nothing twice. Routing takes no lock of this package. Lock order: Forwarder.mu,
// subscriber.mu, then those of package zmtp; no lock is held while waiting.
package forwarder
