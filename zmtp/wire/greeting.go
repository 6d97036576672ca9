package wire

import (
	"bytes"
	"strings"
)

// GreetingSize is the size of a ZMTP 3.x greeting in bytes.
const GreetingSize = 64

// SignatureSize is the size of the part of a greeting that all versions since 2.0 share.
const SignatureSize = 10

const mechanismSize = 20

// Greeting is what a peer says of itself before the handshake (RFC 37, "Greeting").
type Greeting struct {
	Major, Minor byte
	Mechanism    string // without its padding
	AsServer     bool   // libzmq never sets it
}

// V30 reports whether the peer speaks ZMTP 3.0: subscriptions go to it as messages, not as commands. libzmq takes
// every revision but 0, 1 and exactly 3.0 for 3.1, and so do we.
func (g Greeting) V30() bool { return g.Major == 3 && g.Minor == 0 }

// AppendGreeting appends the 64 bytes of a 3.1 greeting.
func AppendGreeting(dst []byte, mechanism string, asServer bool) []byte {
	var b [GreetingSize]byte
	b[0], b[8], b[9] = 0xff, 1, 0x7f
	b[10], b[11] = 3, 1
	copy(b[12:12+mechanismSize], mechanism)
	if asServer {
		b[32] = 1
	}
	return append(dst, b[:]...)
}

// ParseGreeting parses a greeting at the start of b. It returns n = 0 and no error while b is too short, and refuses
// as soon as the bytes at hand cannot become a 3.x greeting: NotZMTP or UnsupportedVersion.
func ParseGreeting(b []byte) (g Greeting, n int, err error) {
	if len(b) > 0 && b[0] != 0xff {
		return g, 0, Errorf(NotZMTP, "first byte is %#02x, want 0xff; ZMTP 1.0 is not supported", b[0])
	}
	if len(b) >= SignatureSize && b[9]&1 == 0 {
		return g, 0, Errorf(UnsupportedVersion, "peer speaks ZMTP 1.0; 3.0 or later is needed")
	}
	if len(b) > SignatureSize && b[10] < 2 {
		return g, 0, Errorf(UnsupportedVersion, "peer speaks ZMTP %d.0; 3.0 or later is needed", b[10]+1)
	}
	if len(b) < GreetingSize {
		return g, 0, nil
	}
	g.Major, g.Minor = b[10], b[11]
	field := b[12 : 12+mechanismSize]
	// Bytes behind the padding belong to the comparison: "NULL" with trailing junk is another mechanism.
	g.Mechanism = string(bytes.TrimRight(field, "\x00"))
	g.AsServer = b[32]&1 != 0
	return g, GreetingSize, nil
}

// CheckMechanism returns a MechanismMismatch unless the peer's mechanism is want.
func (g Greeting) CheckMechanism(want string) error {
	if g.Mechanism == want {
		return nil
	}
	return Errorf(MechanismMismatch, "peer wants mechanism %q, we want %q", strings.ToValidUTF8(g.Mechanism, "?"), want)
}
