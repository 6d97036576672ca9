// Package box encrypts the traffic of a CURVE connection (RFC 26, "The MESSAGE Command"). A
// [Sealer] turns the frames of a NULL connection into MESSAGE frames, an [Opener] turns them back.
// The handshake is in package curve, the ciphers are in package curve/salsa.
//
//	flags size | 07 MESSAGE | nonce 8 | tag 16 | ciphertext of 1 octet of flags and the frame's body
//
// Tag and ciphertext are NaCl's crypto_box under the connection's shared key. The nonce consists of
// "CurveZMQMESSAGEC" (from the client) or "CurveZMQMESSAGES" (from the server) and the 8 octets.
// Both types work on batches: the ciphers process several frames at once.
package box
