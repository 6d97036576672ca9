// Package curve implements CURVE, ZeroMQ's encryption and authentication (RFC 26), compatible with
// libzmq.
//
//	key, secret := curve.GenerateKeyPair()
//	server, err := curve.NewServer(zmtp.Auth{Handler: handler}, secret)
//	pull := zmtp.NewPull(zmtp.Config{Mechanism: server.Mechanism})
//
//	client, err := curve.NewClient(key, clientSecret)
//	push := zmtp.NewPush(zmtp.Config{Mechanism: client.Mechanism}, zmtp.PushOptions{})
//
// Method Mechanism of a [Client] or a [Server] is the [zmtp.Config.Mechanism] of a socket. A server
// asks a handler (package zmtp/zap) about the public key of each client. Without a handler it must
// be set to admit all clients that know its public key. A [Limiter] bounds the handshakes that a
// server computes.
//
// Keys are X25519 key pairs, [Key] and [Secret]. Their text form is Z85 (RFC 32), 40 characters for
// a key. A [Certificate] is a file with one or both keys of a pair.
//
// Departures from libzmq, none of which an honest peer notices:
//
//   - The vouch of a client must name this server, as RFC 26 demands.
//   - The nonce of INITIATE must be larger than that of HELLO.
//   - A client accepts each command once, and in its order.
//   - The size of a frame is checked before the frame has arrived.
//   - Only the inner flags of a MESSAGE count.
//   - Keys of low order are refused everywhere.
//   - A refused connection is closed at once.
//   - Handshakes are limited by address and rate.
package curve
