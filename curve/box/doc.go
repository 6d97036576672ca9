// Package box protects the traffic of a CURVE connection (RFC 26, "The MESSAGE Command"): a [Sealer] turns the frames of a
// NULL connection into MESSAGE frames, an [Opener] turns them back. The handshake is in package curve.
//
//	flags size | 07 MESSAGE | nonce 8 | tag 16 | ciphertext of one octet of flags and the frame's body
//
// Tag and ciphertext are NaCl's crypto_box under the connection's shared key, with the nonce "CurveZMQMESSAGEC" (from the client)
// or "CurveZMQMESSAGES" (from the server) and the 8 octets. The first 16 octets of the nonce never change, and XSalsa20
// hashes just those and the key into the Salsa20 key. So that is done once, for each connection and direction, and what is left is
// Salsa20 with consecutive nonces under one key, and Poly1305.
//
// # Journey of a batch
//
//  1. Seal and Open find up to maxLanes whole frames (lane.go): each becomes a lane, with the bytes to read, where they go
//     and its nonce.
//  2. xor, in stream.go, encrypts or decrypts all lanes from src to dst, and gives each its Poly1305 key.
//  3. sum, in stream.go, computes the tag of one lane's ciphertext.
//  4. Seal writes the tags. Open compares them, and only then writes the headers in front of the plaintext.
//
// Nothing else knows about the ciphers. Faster code replaces the bodies of xor and sum: the lanes of a batch are independent
// of each other, so the blocks (nonce, counter) of several short frames can be computed side by side.
package box
