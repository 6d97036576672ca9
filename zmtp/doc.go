// Package zmtp is ZeroMQ in pure Go: sockets that speak ZMTP 3.1 (RFC 37) with libzmq and with each
// other.
//
// There is one concrete type per socket type, [Push], [Pull], [Pub], [Sub], [XPub] and [XSub], each
// with only the methods that make sense for it. All methods may be called from any goroutine at any
// time. What waits takes a context and has a twin that does not wait and returns [ErrWouldBlock].
//
//	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
//	if err := push.Connect("tcp://127.0.0.1:5557"); err != nil { ... }
//	err := push.Send(ctx, zmtp.NewMessage([]byte("hello")))
//	err = push.Shutdown(ctx) // sends what is queued, as long as ctx allows
//
// # Life of a message
//
// A message is sent and received whole. Its form in memory is its bytes on the wire of a NULL
// connection (package [zmtpd/zmtp/wire]), so that forwarding it is one append.
//
//  1. A peer's read loop (peer_read.go) reads into a slab and lets a wire.Decoder find the
//     boundaries.
//  2. The messages of one read are a [Batch], handed to the socket's [Pattern] on the same
//     goroutine. A pattern that does not return stops the reading, which is the back-pressure.
//  3. Patterns that receive queue the batch in an inbox (inbox.go), a fair queue over peers with a
//     limit per peer.
//  4. Patterns that send append to the peer's outbox (outbox.go), which has two limits, whole
//     messages and bytes.
//  5. A peer's write loop (peer_write.go) takes what has piled up while the last write was under
//     way and writes it with one writev.
//
// # Goroutines and locks
//
// A peer has two goroutines, a listener and a connecter one each. All are started by Socket.start
// or Socket.attach, which refuse after the end has begun; Shutdown waits for all. Lock order:
// pattern, Socket.mu, outbox.mu or inbox.mu, gate.mu.
package zmtp
