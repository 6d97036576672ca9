package wire

import (
	"bytes"
	"strings"
)

// GreetingSize is the size of a ZMTP 3.x greeting in bytes.
const GreetingSize = 64

// SignatureSize is the size in bytes of the part of a greeting that all versions since 2.0 share.
const SignatureSize = 10

const (
	signatureFirst = 0xff
	mechanismSize  = 20

	// Revisions of older peers, in the octet behind the signature (libzmq's zmtp_engine.cpp).
	revision10 = 0
	revision20 = 1
)

// Greeting is what a peer says of itself before the handshake (RFC 37, "Greeting").
type Greeting struct {
	Major, Minor byte
	Mechanism    string // without its padding
	AsServer     bool   // libzmq never sets it
}

// V30 reports whether the peer speaks ZMTP 3.0: subscriptions go to it as messages, not as
// commands. Like libzmq it takes every revision but 0, 1 and exactly 3.0 for 3.1.
func (g Greeting) V30() bool { return g.Major == 3 && g.Minor == 0 }

// AppendGreeting appends the 64 bytes of a 3.1 greeting.
func AppendGreeting(dst []byte, mechanism string, asServer bool) []byte {
	var b [GreetingSize]byte
	b[0], b[8], b[9] = signatureFirst, 1, 0x7f
	b[10], b[11] = 3, 1
	copy(b[12:12+mechanismSize], mechanism)
	if asServer {
		b[32] = 1
	}
	return append(dst, b[:]...)
}

// ParseGreeting parses a greeting at the start of b. It returns n = 0 and no error while b is too
// short, and refuses b as soon as it cannot become a 3.x greeting: with NotZMTP, or with
// UnsupportedVersion and the version that the peer speaks.
func ParseGreeting(b []byte) (g Greeting, n int, err error) {
	switch {
	case len(b) > 0 && b[0] != signatureFirst:
		// A ZMTP 1.0 peer opens with its identity: a length that counts the octet of flags behind
		// it, and these flags, which are zero (RFC 13).
		switch {
		case b[0] == 0 || len(b) > 1 && b[1] != 0:
			return g, 0, Errorf(NotZMTP, "the peer's first byte is %#02x, that of ZMTP is 0xff",
				b[0])
		case len(b) > 1:
			return g, 0, unsupportedVersion("1.0")
		}
		return g, 0, nil
	case len(b) >= SignatureSize && b[9]&1 == 0:
		return g, 0, unsupportedVersion("1.0") // an identity with a length of 8 octets
	case len(b) > SignatureSize && b[10] == revision10:
		return g, 0, unsupportedVersion("1.0")
	case len(b) > SignatureSize && b[10] == revision20:
		return g, 0, unsupportedVersion("2.0")
	}
	if len(b) < GreetingSize {
		return g, 0, nil
	}
	g.Major, g.Minor = b[10], b[11]
	field := b[12 : 12+mechanismSize]
	// Bytes behind the padding count: "NULL" with trailing junk is another mechanism.
	g.Mechanism = string(bytes.TrimRight(field, "\x00"))
	g.AsServer = b[32]&1 != 0
	return g, GreetingSize, nil
}

// unsupportedVersion refuses a peer that is too old. Nothing older than 3.0 has security, and
// libzmq refuses it too as soon as a mechanism other than NULL is set.
func unsupportedVersion(version string) error {
	return Errorf(UnsupportedVersion,
		"the peer speaks ZMTP %s, and 3.0 is the oldest version that is"+
			" supported: update its ZeroMQ library (libzmq to 4.0 or later, JeroMQ to 0.4 or later)",
		version)
}

// CheckMechanism returns a MechanismMismatch unless the peer's mechanism is want.
func (g Greeting) CheckMechanism(want string) error {
	if g.Mechanism == want {
		return nil
	}
	return Errorf(MechanismMismatch, "peer wants mechanism %q, we want %q",
		strings.ToValidUTF8(g.Mechanism, "?"), want)
}
