package daemon

import (
	"net/netip"
	"testing"

	"zmtpd/curve"
)

func TestAddressOfAFlag(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::1": "::1/128", "::ffff:192.0.2.7": "192.0.2.7/32",
		"10.0.0.0/8": "10.0.0.0/8", "fe80::/10": "fe80::/10",
		"10.0.0.1/8": "", "10.0.0.0/33": "", "localhost": "", "": "",
	} {
		var p prefix
		err := p.UnmarshalText([]byte(text))
		if got := netip.Prefix(p).String(); want == "" && err == nil || want != "" &&
			(err != nil || got != want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestKeyOfAClientFlag(t *testing.T) {
	key, _ := curve.GenerateKeyPair()
	for text, name := range map[string]string{
		"worker-1=" + key.String(): "worker-1",
		key.String():               key.String(),
	} {
		c, err := parseClientKey(text)
		if err != nil || c.Key != key || c.Name != name {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "=", key.String()[1:], "a=" + key.String()[1:],
		key.String() + "x"} {
		if c, err := parseClientKey(text); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
