package zap

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func b(s ...string) [][]byte {
	out := make([][]byte, len(s))
	for i := range s {
		out[i] = []byte(s[i])
	}
	return out
}

func TestParseReplyRefusesAsLibzmqDoes(t *testing.T) {
	for name, c := range map[string]struct {
		frames [][]byte
		fault  Fault
	}{
		"five frames":       {b("1.0", "1", "200", "OK", ""), FaultMalformed},
		"seven frames":      {b("1.0", "1", "200", "OK", "", "", ""), FaultMalformed},
		"version":           {b("1.1", "1", "200", "OK", "", ""), FaultVersion},
		"request id":        {b("1.0", "2", "200", "OK", "", ""), FaultRequestID},
		"status 404":        {b("1.0", "1", "404", "OK", "", ""), FaultStatus},
		"status 600":        {b("1.0", "1", "600", "OK", "", ""), FaultStatus},
		"status 100":        {b("1.0", "1", "100", "OK", "", ""), FaultStatus},
		"status 20":         {b("1.0", "1", "20", "OK", "", ""), FaultStatus},
		"metadata trailing": {b("1.0", "1", "200", "OK", "", "\x00"), FaultMetadata},
		"metadata short": {b("1.0", "1", "200", "OK", "", "\x01a\x00\x00\x00\x02x"),
			FaultMetadata},
	} {
		_, err := ParseReply(c.frames, "1")
		if e, ok := errors.AsType[*Error](err); !ok || e.Fault != c.fault {
			t.Errorf("%s: %v, want fault %#x", name, err, uint32(c.fault))
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringN(0, 20, 40)
		req := Request{
			ID: s.Draw(t, "id"), Domain: s.Draw(t, "domain"), Address: s.Draw(t, "address"),
			Identity: []byte(s.Draw(t, "identity")), Mechanism: s.Draw(t, "mechanism"),
			Credentials: b(rapid.SliceOfN(s, 0, 3).Draw(t, "credentials")...),
		}
		got, err := ParseRequest(req.Frames())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.Join(got.Frames(), []byte{0}), bytes.Join(req.Frames(), []byte{0})) {
			t.Fatalf("%+v reads back as %+v", req, got)
		}
	})
}

func TestAddresses(t *testing.T) {
	a := &Addresses{
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("fe80::/10")},
		Deny: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
	}
	for addr, want := range map[string]int{
		"10.2.3.4": StatusOK, "10.1.3.4": StatusTemporary, "192.0.2.1": StatusTemporary,
		"::ffff:10.2.3.4": StatusOK, "fe80::1%eth0": StatusOK, "localhost:0:0:1": StatusOK,
	} {
		r, err := a.Authenticate(context.Background(), &Request{Address: addr})
		if err != nil || r.Status != want {
			t.Errorf("%s: %d %v, want %d", addr, r.Status, err, want)
		}
	}
}

func TestPasswords(t *testing.T) {
	p := Passwords{"zeek": "secret", "empty": ""}
	for _, c := range []struct {
		user, password string
		want           int
	}{{"zeek", "secret", 200}, {"zeek", "secre", 400}, {"zeek", "", 400}, {"nobody", "", 400},
		{"empty", "", 200}} {
		r, _ := p.Authenticate(context.Background(),
			&Request{Mechanism: "PLAIN", Credentials: b(c.user, c.password)})
		if r.Status != c.want {
			t.Errorf("%q %q: %d, want %d", c.user, c.password, r.Status, c.want)
		}
		if r.Status == StatusOK && r.UserID != c.user {
			t.Errorf("User-Id %q", r.UserID)
		}
	}
}
