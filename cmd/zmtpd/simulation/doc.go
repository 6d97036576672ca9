// Package simulation plays the nodes of a Zeek cluster against a real broker and logger: real
// handshakes, subscriptions, events and log batches. It numbers everything that it sends, and
// counts at the end what has arrived.
//
// Three streams of events flow, as in a cluster of Zeek: findings from workers to the manager,
// hosts from workers to the proxy to which the host belongs, and indicators from the manager to
// all workers. Each worker writes conn, dns and http logs.
//
// A slow worker takes ten events a second, and loses what its queue cannot hold. A dying worker
// ends again and again without a word, and comes back as another process with the same name.
// Everything else must arrive once and in order; a [Report] says whether it has.
package simulation
