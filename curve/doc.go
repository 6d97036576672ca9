// Package curve is CURVE, ZeroMQ's encryption and authentication (RFC 26), as libzmq speaks it.
//
// A [Client] or a [Server] gives a socket of package zmtp its [zmtp.Config.Mechanism]. A server asks a handler (package
// zmtp/zap) about the public key of each client; without one it has to be told that everybody who knows its own public key may
// come in.
//
// Keys are X25519 key pairs, [Key] and [Secret]. Their text form is Z85 (RFC 32), 40 characters a key; a [Certificate] is a
// file with one or both keys of a pair.
//
// Departures from libzmq, which no honest peer notices: the vouch of a client must be for this server, INITIATE needs a larger
// nonce than HELLO, a client takes every command once and in its order, frames are bounded before they have arrived, only the inner flags of
// a MESSAGE count, keys of low order are refused everywhere, and whoever is refused is closed at once.
package curve
