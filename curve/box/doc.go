// Package box protects the traffic of a CURVE connection (RFC 26, "The MESSAGE Command"): a [Sealer] turns the frames of a
// NULL connection into MESSAGE frames, an [Opener] turns them back. The handshake is in package curve, the ciphers are in
// curve/salsa.
//
//	flags size | 07 MESSAGE | nonce 8 | tag 16 | ciphertext of one octet of flags and the frame's body
//
// Tag and ciphertext are NaCl's crypto_box under the connection's shared key, with the nonce "CurveZMQMESSAGEC" (from the client)
// or "CurveZMQMESSAGES" (from the server) and the 8 octets. Both sides work on batches: what is at hand is cut into frames, and
// the ciphers get all of them at once.
package box
