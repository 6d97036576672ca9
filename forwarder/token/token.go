// Package token has the bearer tokens of clients that are listed in a file.
package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// minLength is the length of the shortest token: shorter ones can be guessed.
const minLength = 16

// Hash is the SHA-256 hash of a token, zero for none. Tokens are looked up by their hashes, so that
// the time of a comparison tells nothing about a token.
type Hash [sha256.Size]byte

// Of returns the hash of a token that a client has shown.
func Of(token string) Hash { return sha256.Sum256([]byte(token)) }

// Parse returns the hash of a token in a file, which has the token itself or token_sha256, its hash
// in hexadecimal digits. It returns zero for neither.
func Parse(token, sum string) (h Hash, err error) {
	switch {
	case token != "" && sum != "":
		return h, errors.New("give token or token_sha256, not both")
	case token != "" && len(token) < minLength:
		return h, fmt.Errorf("the token has less than %d characters and could be guessed",
			minLength)
	case token != "":
		return Of(token), nil
	case sum == "":
		return h, nil
	}
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("token_sha256 needs %d hexadecimal digits", 2*len(h))
	}
	return Hash(b), nil
}
