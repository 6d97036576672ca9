//go:build linux

package hostile

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// attacker is the address of the attacks. Honest peers have another one.
var attacker = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}

// dial connects to an endpoint from the attacker's address.
func dial(endpoint string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: attacker, Timeout: testkit.Patience}
	return d.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
}

// connect connects to an endpoint and completes the handshake of a NULL connection.
func connect(endpoint string, as wire.SocketType) (net.Conn, error) {
	c, err := dial(endpoint)
	if err != nil {
		return nil, err
	}
	if err := handshake(c, as); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func handshake(c net.Conn, as wire.SocketType) error {
	c.SetDeadline(time.Now().Add(testkit.Patience))
	defer c.SetDeadline(time.Time{})
	hello := wire.AppendGreeting(nil, "NULL", false)
	hello = wire.AppendCommand(hello, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(as)))
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var head [wire.GreetingSize + 2]byte // READY has less than 256 bytes
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, head[len(head)-1]))
	return err
}

// pour writes b repeatedly, up to total bytes, until ctx ends or the daemon closes the connection.
// It returns the number of bytes that the kernel took.
func pour(ctx context.Context, c net.Conn, b []byte, total int) (n int) {
	defer context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })()
	for n < total {
		m, err := c.Write(b[:min(len(b), total-n)])
		n += m
		if err != nil {
			break
		}
	}
	return n
}

// closed waits until the daemon closes a connection. It returns an error if that takes longer than
// Patience.
func closed(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the daemon has not closed the connection")
	}
	return nil
}
