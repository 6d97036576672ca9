package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// resolveTimeout bounds the time in which the start of a daemon resolves one name.
const resolveTimeout = 2 * time.Second

// refuseSelf returns an error if the daemon itself listens at a target. Such a connection is a
// loop: the daemon would receive what it sends.
func refuseSelf(ctx context.Context, t Target, bound []Endpoint) error {
	for _, b := range bound {
		if LeadsTo(ctx, t.Endpoint, b.Endpoint) {
			return Usagef("%s %s: zmtpd itself listens there (%s %s); name the endpoint of "+
				"another process", t.Flag, t.Endpoint, b.Flag, b.Endpoint)
		}
	}
	return nil
}

// LeadsTo reports whether a connection to endpoint ends at bound, the endpoint or URL of a listener
// of this process.
func LeadsTo(ctx context.Context, endpoint, bound string) bool {
	transport, address, _ := strings.Cut(endpoint, "://")
	_, boundAddress, _ := strings.Cut(bound, "://")
	if transport == "ipc" {
		return strings.HasPrefix(bound, "ipc://") && sameSocketFile(address, boundAddress)
	}
	listener, err := netip.ParseAddrPort(boundAddress)
	if err != nil {
		return false
	}
	host, port := splitTCP(address)
	if port != strconv.Itoa(int(listener.Port())) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false // Connect tries again and logs why it fails
	}
	for _, a := range addresses {
		if accepts(listener.Addr(), a, isLocal) {
			return true
		}
	}
	return false
}

// splitTCP splits the address of a tcp endpoint, [SOURCE;]HOST:PORT, and removes brackets.
func splitTCP(address string) (host, port string) {
	if _, after, ok := strings.Cut(address, ";"); ok {
		address = after
	}
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address, ""
	}
	return strings.Trim(address[:i], "[]"), address[i+1:]
}

// sameSocketFile reports whether two paths name one Unix domain socket.
func sameSocketFile(a, b string) bool {
	if a == b {
		return true
	}
	fa, err := os.Stat(a)
	if err != nil {
		return false
	}
	fb, err := os.Stat(b)
	return err == nil && os.SameFile(fa, fb)
}

// accepts reports whether a listener with one address gets the connections to another. local
// reports whether an address is one of this host's.
func accepts(listener, to netip.Addr, local func(netip.Addr) bool) bool {
	listener, to = listener.Unmap().WithZone(""), to.Unmap().WithZone("")
	switch {
	case to == netip.IPv4Unspecified():
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // connect(2) goes there
	case to == netip.IPv6Unspecified():
		to = netip.IPv6Loopback()
	}
	switch listener {
	case netip.IPv4Unspecified():
		return to.Is4() && local(to)
	case netip.IPv6Unspecified():
		return local(to)
	}
	return listener == to
}

// isLocal reports whether an address is one of this host's.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, one := range all {
		if n, ok := one.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
				return true
			}
		}
	}
	return false
}
