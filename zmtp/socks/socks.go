// Package socks connects through SOCKS5 proxies (RFC 1928), for Config.Dial of package zmtp:
//
//	cfg.Dial = (&socks.Dialer{Proxy: "127.0.0.1:1080"}).Dial
//
// The connection that it returns is that to the proxy itself, not a wrapper. So zmtp can close one
// direction of it, and knows what is under way.
package socks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Dialer connects through a proxy.
type Dialer struct {
	Proxy string // host:port
	// User and Password are for proxies that ask for them (RFC 1929), at most 255 bytes each. They
	// go over the network in clear. Default none.
	User, Password string
}

const (
	version         = 5
	passwordVersion = 1

	noAuth       = 0x00
	passwordAuth = 0x02
	noneAccepted = 0xff

	connectCommand = 1
	ipv4Address    = 1
	nameAddress    = 3
	ipv6Address    = 4
)

// replies are the errors of a proxy (RFC 1928, section 6).
var replies = map[byte]string{
	1: "general failure", 2: "connection not allowed", 3: "network unreachable",
	4: "host unreachable", 5: "connection refused", 6: "TTL expired",
	7: "command not supported", 8: "address type not supported",
}

// Dial connects to address, host:port. The proxy resolves a name. It waits until the proxy has
// connected, or ctx ends. network is "tcp" or "tcp4".
func (d *Dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" {
		return nil, fmt.Errorf("socks: network %q cannot go through a proxy, only tcp can", network)
	}
	request, err := appendRequest(nil, address)
	if err != nil {
		return nil, err
	}
	if len(d.User) > 255 || len(d.Password) > 255 {
		return nil, errors.New("socks: User and Password may have at most 255 bytes")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.Proxy)
	if err != nil {
		return nil, fmt.Errorf("socks: proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	if err = d.handshake(conn, request); err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		conn.Close()
		return nil, fmt.Errorf("socks: proxy %s, %s: %w", d.Proxy, address, err)
	}
	return conn, nil
}

// handshake agrees on a method, sends the request, and reads the reply.
func (d *Dialer) handshake(conn net.Conn, request []byte) error {
	methods := []byte{version, 1, noAuth}
	if d.User != "" {
		methods = []byte{version, 2, noAuth, passwordAuth}
	}
	var reply [4]byte
	if err := exchange(conn, methods, reply[:2]); err != nil {
		return err
	}
	switch {
	case reply[0] != version:
		return fmt.Errorf("not a SOCKS5 proxy, it says version %d", reply[0])
	case reply[1] == passwordAuth && d.User != "":
		if err := d.logIn(conn); err != nil {
			return err
		}
	case reply[1] == noneAccepted:
		return errors.New("the proxy wants another way to log in; set User and Password")
	case reply[1] != noAuth:
		return fmt.Errorf("the proxy chose method %d, which was not offered", reply[1])
	}
	if err := exchange(conn, request, reply[:]); err != nil {
		return err
	}
	if reply[0] != version {
		return fmt.Errorf("the proxy answered with version %d", reply[0])
	}
	if reply[1] != 0 {
		if text, ok := replies[reply[1]]; ok {
			return errors.New(text)
		}
		return fmt.Errorf("error %d of the proxy", reply[1])
	}
	return skipAddress(conn, reply[3])
}

// logIn sends name and password.
func (d *Dialer) logIn(conn net.Conn) error {
	b := append([]byte{passwordVersion, byte(len(d.User))}, d.User...)
	b = append(append(b, byte(len(d.Password))), d.Password...)
	var reply [2]byte
	if err := exchange(conn, b, reply[:]); err != nil {
		return err
	}
	if reply[1] != 0 {
		return fmt.Errorf("the proxy refused user %q or the password", d.User)
	}
	return nil
}

// exchange sends a request and reads an answer of the length of reply.
func exchange(conn net.Conn, request, reply []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, reply)
	return err
}

// appendRequest appends the request to connect to address.
func appendRequest(dst []byte, address string) ([]byte, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("socks: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("socks: port %q is not a number from 0 to 65535", text)
	}
	dst = append(dst, version, connectCommand, 0)
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.Unmap().Is4():
		dst = append(append(dst, ipv4Address), ip.Unmap().AsSlice()...)
	case err == nil:
		dst = append(append(dst, ipv6Address), ip.AsSlice()...)
	case len(host) > 255:
		return nil, fmt.Errorf("socks: host name of %d bytes, at most 255 can be sent", len(host))
	default:
		dst = append(append(dst, nameAddress, byte(len(host))), host...)
	}
	return binary.BigEndian.AppendUint16(dst, uint16(port)), nil
}

// skipAddress reads the address from which the proxy has connected, and nothing behind it.
func skipAddress(conn net.Conn, kind byte) error {
	var length [1]byte
	n := 0
	switch kind {
	case ipv4Address:
		n = net.IPv4len
	case ipv6Address:
		n = net.IPv6len
	case nameAddress:
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return err
		}
		n = int(length[0])
	default:
		return fmt.Errorf("the proxy answered with an address of type %d", kind)
	}
	_, err := io.CopyN(io.Discard, conn, int64(n)+2)
	return err
}
