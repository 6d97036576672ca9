package zmtp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// tcpTransport is libzmq's tcp. An address is host:port or, to connect, source:port;host:port.
type tcpTransport struct{}

// tcpAddress is a parsed address.
type tcpAddress struct {
	host   string // an address, a name, an interface or "*"; without brackets
	port   int    // 0 for an ephemeral one
	source string // host:port to connect from, or ""
}

func (tcpTransport) Listen(ctx context.Context, address string, cfg *Config) (net.Listener, string,
	error) {
	a, err := parseTCP(address)
	if err != nil {
		return nil, "", err
	}
	network, address, err := a.listenAddress(cfg.IPv6)
	if err != nil {
		return nil, "", err
	}
	lc := net.ListenConfig{KeepAlive: -1, KeepAliveConfig: cfg.KeepAlive, Control: cfg.control}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, "", err
	}
	return l, l.Addr().String(), nil
}

func (tcpTransport) Dialer(address string, cfg *Config) (func(context.Context) (net.Conn, error),
	error) {
	a, err := parseTCP(address)
	if err != nil {
		return nil, err
	}
	network, target, err := a.dialAddress(cfg.IPv6)
	if err != nil {
		return nil, err
	}
	dial := cfg.Dial
	if dial == nil {
		d := &net.Dialer{KeepAlive: -1, KeepAliveConfig: cfg.KeepAlive, Control: cfg.control}
		if a.source != "" {
			if d.LocalAddr, err = net.ResolveTCPAddr("tcp", a.source); err != nil {
				return nil, endpointError("tcp://"+address, "source address: %v", err)
			}
		}
		dial = d.DialContext
	}
	return func(ctx context.Context) (net.Conn, error) { return dial(ctx, network, target) }, nil
}

// parseTCP parses host:port and source:port;host:port. A host may be an address, a name, "*" or, to
// listen on, an interface. Brackets around an IPv6 address are optional: the last colon divides it
// from the port.
func parseTCP(address string) (a tcpAddress, err error) {
	endpoint := "tcp://" + address
	if source, rest, ok := strings.Cut(address, ";"); ok {
		host, port, err := splitHostPort(endpoint, source)
		if err != nil {
			return a, err
		}
		if host == "*" {
			host = ""
		}
		a.source = net.JoinHostPort(host, strconv.Itoa(port))
		address = rest
	}
	a.host, a.port, err = splitHostPort(endpoint, address)
	return a, err
}

func splitHostPort(endpoint, address string) (host string, port int, err error) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "", 0, endpointError(endpoint, "the port is missing")
	}
	host, p := address[:i], address[i+1:]
	if strings.HasPrefix(host, "[") != strings.HasSuffix(host, "]") {
		return "", 0, endpointError(endpoint, "unbalanced brackets")
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.ContainsAny(host, " \t\r\n/[]") {
		return "", 0, endpointError(endpoint,
			"the host is missing or has characters that no host has")
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, endpointError(endpoint, "%q is not an IPv6 address", host)
		}
	}
	if p == "*" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, endpointError(endpoint, "port %q is not a number from 0 to 65535", p)
	}
	return host, int(n), nil
}

// listenAddress returns network and address for net.Listen.
func (a tcpAddress) listenAddress(ipv6 bool) (network, address string, err error) {
	if a.source != "" {
		return "", "", fmt.Errorf("%w: a source address is for Connect only", ErrEndpoint)
	}
	host := a.host
	switch {
	case host == "*" && ipv6:
		return "tcp", net.JoinHostPort("::", strconv.Itoa(a.port)), nil
	case host == "*":
		return "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(a.port)), nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if addr, ok, err := interfaceAddress(host, ipv6); err != nil {
			return "", "", err
		} else if ok {
			host = addr
		} else if !ipv6 {
			return "tcp4", net.JoinHostPort(host, strconv.Itoa(a.port)), nil
		}
	}
	network = "tcp"
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		network = "tcp4" // else 0.0.0.0 means the addresses of IPv6 too
	}
	return network, net.JoinHostPort(host, strconv.Itoa(a.port)), nil
}

// dialAddress returns network and address for net.Dialer.
func (a tcpAddress) dialAddress(ipv6 bool) (network, address string, err error) {
	if a.host == "*" || a.port == 0 {
		return "", "",
			fmt.Errorf("%w tcp://%s:%d: Connect needs a host and a port, * and 0 are for Listen",
				ErrEndpoint, a.host, a.port)
	}
	network = "tcp"
	if _, err := netip.ParseAddr(a.host); err != nil && !ipv6 {
		network = "tcp4"
	}
	return network, net.JoinHostPort(a.host, strconv.Itoa(a.port)), nil
}

// interfaceAddress returns the address of the network interface called name, if there is one.
func interfaceAddress(name string, ipv6 bool) (string, bool, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return "", false, nil // the name is a host's
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
