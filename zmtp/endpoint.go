package zmtp

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// endpoint is a parsed endpoint of the form transport://address.
type endpoint struct {
	transport string // "tcp" or "ipc"
	host      string // tcp: address, name, interface or "*"; no brackets
	port      int    // tcp: 0 for an ephemeral one
	path      string // ipc: file, "*" for a new one, "@name" for an abstract one
	source    string // tcp, connect only: host:port to connect from, or ""
}

func endpointError(s, format string, args ...any) error {
	return fmt.Errorf("%w %q: %s", ErrEndpoint, s, fmt.Sprintf(format, args...))
}

// parseEndpoint parses tcp://host:port, tcp://source:port;host:port, ipc://path, ipc://@name and ipc://*. A host may be an
// address, a name, "*" or, to listen on, an interface. IPv6 addresses have brackets or not: the last colon divides.
func parseEndpoint(s string) (endpoint, error) {
	transport, addr, ok := strings.Cut(s, "://")
	if !ok {
		return endpoint{}, endpointError(s, "want transport://address, for example tcp://127.0.0.1:5555 or ipc:///run/name")
	}
	e := endpoint{transport: transport}
	switch transport {
	case "ipc":
		if addr == "" || addr == "@" || strings.ContainsRune(addr, 0) {
			return e, endpointError(s, "want ipc://path, ipc://@name or ipc://*")
		}
		if len(addr) >= maxSocketPath {
			return e, endpointError(s, "the path has %d bytes, the operating system allows %d", len(addr), maxSocketPath-1)
		}
		e.path = addr
		return e, nil
	case "tcp":
		if source, rest, ok := strings.Cut(addr, ";"); ok {
			host, port, err := splitHostPort(s, source)
			if err != nil {
				return e, err
			}
			if host == "*" {
				host = ""
			}
			e.source = net.JoinHostPort(host, strconv.Itoa(port))
			addr = rest
		}
		var err error
		e.host, e.port, err = splitHostPort(s, addr)
		return e, err
	}
	return e, endpointError(s, "transport %q is not supported, only tcp and ipc are", transport)
}

func splitHostPort(s, addr string) (host string, port int, err error) {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return "", 0, endpointError(s, "the port is missing")
	}
	host, p := addr[:i], addr[i+1:]
	if strings.HasPrefix(host, "[") != strings.HasSuffix(host, "]") {
		return "", 0, endpointError(s, "unbalanced brackets")
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.ContainsAny(host, " \t\r\n/[]") {
		return "", 0, endpointError(s, "the host is missing or has characters that no host has")
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, endpointError(s, "%q is not an IPv6 address", host)
		}
	}
	if p == "*" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, endpointError(s, "port %q is not a number from 0 to 65535", p)
	}
	return host, int(n), nil
}

// listenAddress returns network and address for net.Listen.
func (e endpoint) listenAddress(ipv6 bool) (network, address string, err error) {
	if e.source != "" {
		return "", "", fmt.Errorf("%w: a source address is for Connect only", ErrEndpoint)
	}
	host := e.host
	switch {
	case host == "*" && ipv6:
		return "tcp", net.JoinHostPort("::", strconv.Itoa(e.port)), nil
	case host == "*":
		return "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(e.port)), nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if addr, ok, err := interfaceAddress(host, ipv6); err != nil {
			return "", "", err
		} else if ok {
			host = addr
		} else if !ipv6 {
			return "tcp4", net.JoinHostPort(host, strconv.Itoa(e.port)), nil
		}
	}
	return "tcp", net.JoinHostPort(host, strconv.Itoa(e.port)), nil
}

// dialAddress returns network and address for net.Dialer.
func (e endpoint) dialAddress(ipv6 bool) (network, address string, err error) {
	if e.transport == "ipc" {
		if e.path == "*" {
			return "", "", fmt.Errorf("%w: ipc://* is for Listen only", ErrEndpoint)
		}
		return "unix", e.path, nil
	}
	if e.host == "*" || e.port == 0 {
		return "", "", fmt.Errorf("%w tcp://%s:%d: Connect needs a host and a port, * and 0 are for Listen", ErrEndpoint, e.host, e.port)
	}
	network = "tcp"
	if _, err := netip.ParseAddr(e.host); err != nil && !ipv6 {
		network = "tcp4"
	}
	return network, net.JoinHostPort(e.host, strconv.Itoa(e.port)), nil
}

// interfaceAddress returns the address of the named network interface, if there is one of that name.
func interfaceAddress(name string, ipv6 bool) (string, bool, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return "", false, nil // then it is the name of a host
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return "", false, fmt.Errorf("%w: interface %s: %w", ErrEndpoint, name, err)
	}
	var v6 string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if n.IP.To4() != nil {
			return n.IP.String(), true, nil
		}
		if v6 == "" {
			v6 = n.IP.String()
			if n.IP.IsLinkLocalUnicast() {
				v6 += "%" + name
			}
		}
	}
	if v6 != "" && ipv6 {
		return v6, true, nil
	}
	return "", false, fmt.Errorf("%w: interface %s has no usable address", ErrEndpoint, name)
}

// boundEndpoint is the text of the endpoint on which l listens, libzmq's ZMQ_LAST_ENDPOINT.
func boundEndpoint(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "ipc://" + l.Addr().String()
	}
	return "tcp://" + l.Addr().String()
}
