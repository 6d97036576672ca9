// Package salsa implements xsalsa20-poly1305, the secret-key box of NaCl, for the traffic of a
// CURVE connection (RFC 26): many messages under one key, with nonces that share their first 16
// bytes. A sealed message is a Poly1305 tag of 16 bytes and the encrypted text, as from
// crypto_box_afternm and golang.org/x/crypto/nacl/secretbox.
//
// [Cipher.Init] computes what depends only on key and common 16 bytes. All else works on batches. A
// Salsa20 block depends only on the key, the nonce and the number of the block. So up to 32 blocks,
// of one message or several, are computed side by side in vector registers. So are the tags of
// eight small messages, or eight blocks of a large one. group.go has the steps. The program chooses
// the instructions at its start: AVX-512 with or without IFMA or AVX2 on amd64, portable Go
// elsewhere.
//
// "go run ./curve/salsa/bench" compares it with libsodium.
//
// No branch and no address depends on a key or a text.
package salsa
