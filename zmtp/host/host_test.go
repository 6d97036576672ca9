package host

import (
	"net"
	"testing"

	"zmtpd/zmtp/zmtptest"
)

// All addresses of a host count as one: in both notations of IPv4, and within a /64 of IPv6.
func TestOf(t *testing.T) {
	for remote, want := range map[string]string{
		"10.1.2.3:5":               "10.1.2.3",
		"[::ffff:10.1.2.3]:5":      "10.1.2.3",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::",
		"[fe80::1%eth0]:5":         "fe80::",
		"@":                        "invalid IP",
		"/run/some/socket":         "invalid IP",
	} {
		addresses := []net.Addr{zmtptest.Addr(remote)}
		if tcp, err := net.ResolveTCPAddr("tcp", remote); err == nil {
			addresses = append(addresses, tcp)
		}
		for _, a := range addresses {
			if got := Of(a).String(); got != want {
				t.Errorf("%T %s: %s, want %s", a, remote, got, want)
			}
		}
	}
	if Of(&net.UnixAddr{Name: "a"}) != Of(&net.UnixAddr{Name: "b"}) || Of(nil).IsValid() {
		t.Error("connections without an IP address count as several addresses")
	}
}
