// Package salsa is xsalsa20-poly1305, the secret-key box of NaCl, for the traffic of a CURVE connection (RFC 26): many
// messages under one key whose nonces have their first 16 bytes in common. A sealed message is a Poly1305 tag of 16 bytes
// and the encrypted text; it is what crypto_box_afternm and golang.org/x/crypto/nacl/secretbox make.
//
// What depends on the 16 bytes is computed once, in [Cipher.Init]. The rest is made for batches: a Salsa20 block depends on
// the key, the nonce and its number only, so up to 32 of them, of one message or of several, are computed side by side in
// vector registers; and so are the tags of eight small messages, or eight blocks of a large one. group.go has the steps. The
// instructions are chosen when the program starts: AVX-512, with or without IFMA, or AVX2 on amd64, portable Go elsewhere.
//
// "go run ./curve/salsa/bench" compares it with libsodium.
//
// No branch and no address depends on a key or on a text.
package salsa
