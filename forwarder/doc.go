// Package forwarder is the central broker of a Zeek cluster. Publishers connect to its XSUB socket,
// subscribers to its XPUB socket. A message reaches every subscriber that subscribed a prefix of
// its first part, the topic. The package takes the place of libzmq's proxy between an XSUB and an
// XPUB with ZMQ_XPUB_VERBOSER.
//
//	f := forwarder.New(forwarder.Config{})
//	_, err := f.ListenXSub("tcp://127.0.0.1:5556") // for publishers
//	_, err = f.ListenXPub("tcp://127.0.0.1:5555")  // for subscribers
//	...
//	err = f.Shutdown(ctx)
//
// Programs in the same process take part without a connection, see [Forwarder.Join].
//
// # Messages
//
//  1. The publisher's read goroutine calls Receive with a batch, the messages of one read
//     (publisher.go).
//  2. The router finds the subscribers of each topic, in the publisher's cache or in the table of
//     subscriptions (route.go). Adjacent messages for the same subscriber form one run.
//  3. Each subscriber is offered its runs once a batch. Short runs are copied into its queue. Long
//     runs are sent from the memory into which they were read.
//  4. If a queue is full, the overload policy decides (overload.go). To wait means that the
//     publisher's goroutine waits and reads no more: that is the back-pressure.
//
// Between the reader of one connection and the writer of the other there is no goroutine.
//
// # Subscriptions
//
// A publisher keeps one set of topics for each connection, and the broker is one connection. So the
// broker sends every SUBSCRIBE to all publishers, which is how Zeek nodes learn of each other, but
// a CANCEL only when the last subscriber of a topic is gone (subscriber.go). A publisher that
// connects later first gets all current topics.
//
// # Accounts
//
// Every message is accounted for: see Received, Upstream and Account (account.go).
//
// # Locks
//
// Forwarder.mu is held while the subscriptions change and the publishers are told, so that all
// publishers see the same order and a new one misses nothing and gets nothing twice. Routing takes
// no lock of this package. The lock order is Forwarder.mu, subscriber.mu, then the locks of package
// zmtp. No goroutine holds a lock while it waits.
package forwarder
