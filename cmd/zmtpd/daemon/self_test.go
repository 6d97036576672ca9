package daemon

import (
	"net/netip"
	"testing"
)

func TestAccepts(t *testing.T) {
	local := func(a netip.Addr) bool {
		return a.IsLoopback() || a.String() == "192.0.2.1" || a.String() == "2001:db8::1"
	}
	for _, c := range []struct {
		listener, to string
		want         bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", false},
		{"127.0.0.1", "0.0.0.0", true},
		{"192.0.2.1", "0.0.0.0", false},
		{"0.0.0.0", "127.0.0.2", true},
		{"0.0.0.0", "0.0.0.0", true},
		{"0.0.0.0", "192.0.2.1", true},
		{"0.0.0.0", "::ffff:192.0.2.1", true},
		{"0.0.0.0", "192.0.2.2", false},
		{"0.0.0.0", "::1", false},
		{"::", "::1", true},
		{"::", "::", true},
		{"::", "2001:db8::1", true},
		{"::", "192.0.2.1", true},
		{"::", "2001:db8::2", false},
		{"::1", "::", true},
		{"::ffff:127.0.0.1", "127.0.0.1", true},
		{"fe80::1%eth0", "fe80::1", true},
	} {
		if got := accepts(netip.MustParseAddr(c.listener), netip.MustParseAddr(c.to),
			local); got != c.want {
			t.Errorf("a listener at %s gets connections to %s: %v, want %v", c.listener, c.to, got,
				c.want)
		}
	}
}
