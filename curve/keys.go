package curve

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"

	"zmtpd/z85"
)

const (
	// KeySize is the size of a key in bytes, public or secret.
	KeySize = 32
	// TextSize is the length of a key's text in characters.
	TextSize = KeySize / 4 * 5
)

// Key is a long-term public key: a u coordinate on Curve25519, little-endian (RFC 7748, section 5).
type Key [KeySize]byte

// Secret is the secret key of a pair. All verbs of fmt, JSON and logs show a placeholder for it;
// [Secret.Text] returns the key.
type Secret [KeySize]byte

// ParseKey parses a public key in one of the forms that libzmq accepts: 32 bytes, their Z85 text of
// 40 characters, or that text and a zero byte. The error says what is wrong with b.
func ParseKey(b []byte) (Key, error) {
	k, err := parse(b)
	if err != nil {
		return Key{}, fmt.Errorf("CURVE public key: %w", err)
	}
	return k, nil
}

// ParseSecret is [ParseKey] for a secret key. The error does not contain any part of the key.
func ParseSecret(b []byte) (Secret, error) {
	k, err := parse(b)
	if err != nil {
		return Secret{}, fmt.Errorf("CURVE secret key: %w", err)
	}
	return k, nil
}

func parse(b []byte) (k [KeySize]byte, err error) {
	if len(b) == KeySize {
		return [KeySize]byte(b), nil
	}
	text := b
	if len(text) == TextSize+1 {
		text = bytes.TrimSuffix(text, []byte{0})
	}
	if len(text) != TextSize {
		return k, fmt.Errorf("%d bytes, but a key is %d characters of Z85 or %d bytes", len(b),
			TextSize,
			KeySize)
	}
	_, err = z85.AppendDecode(k[:0], text)
	return k, err
}

// GenerateKeyPair makes a key pair from the operating system's random numbers.
func GenerateKeyPair() (Key, Secret) {
	var s Secret
	rand.Read(s[:]) // never fails
	return s.Public(), s
}

// Public returns the public key that belongs to s.
func (s Secret) Public() Key {
	priv, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	return Key(priv.PublicKey().Bytes())
}

// Equal compares two keys in constant time.
func (k Key) Equal(other Key) bool { return subtle.ConstantTimeCompare(k[:], other[:]) == 1 }

// Equal compares two keys in constant time.
func (s Secret) Equal(other Secret) bool { return subtle.ConstantTimeCompare(s[:], other[:]) == 1 }

// String returns the key as Z85 text.
func (k Key) String() string { return text(k) }

// Text returns the secret key as Z85 text.
func (s Secret) Text() string { return text(s) }

func text(k [KeySize]byte) string {
	t, err := z85.AppendEncode(make([]byte, 0, TextSize), k[:])
	if err != nil {
		panic(err) // 32 is a multiple of 4
	}
	return string(t)
}

const hidden = "(secret key)"

// Format implements [fmt.Formatter] for all verbs, so that no print shows the key.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// LogValue implements [slog.LogValuer], so that no log shows the key.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements [encoding.TextMarshaler], so that no JSON shows the key.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
