// Package host tells which connections come from one host, for limits per address.
package host

import (
	"net"
	"net/netip"
)

// Of returns the address under which the connections of one host are counted: the IPv4 address, or
// the first 64 bits of the IPv6 address, since a host may use all addresses of its /64. It is not
// valid for addresses without an IP address, such as those of Unix sockets, and for nil: all of them
// count as one.
func Of(a net.Addr) netip.Addr {
	var remote netip.AddrPort
	switch a := a.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		remote = a.AddrPort()
	default:
		var err error
		if remote, err = netip.ParseAddrPort(a.String()); err != nil {
			return netip.Addr{}
		}
	}
	address := remote.Addr().Unmap().WithZone("")
	if address.Is6() {
		address = netip.PrefixFrom(address, 64).Masked().Addr()
	}
	return address
}
