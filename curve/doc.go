// Package curve has the keys of CURVE, ZeroMQ's encryption (RFC 26): X25519 key
// pairs, and their text form in Z85 (RFC 32), 40 characters a key.
package curve
