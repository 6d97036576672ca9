package fuzz_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

func dialer(n *zmtptest.Network) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn,
		error) {
		return n.Dial(ctx, address)
	}
}

// hostile lets s listen, and sends it b on two connections: on its own, and behind the handshake of
// a peer of type typ.
func hostile(t *testing.T, n *zmtptest.Network, address string, s *zmtp.Socket, typ wire.SocketType,
	b []byte) {
	t.Helper()
	l, err := n.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
	handshake := wire.AppendGreeting(nil, "NULL", false)
	handshake = wire.AppendCommand(handshake, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(typ)))
	var done sync.WaitGroup
	for _, stream := range [][]byte{b, append(handshake, b...)} {
		conn, err := n.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		done.Go(func() { io.Copy(io.Discard, conn) })
		conn.Write(stream) // a fault in it may end the connection before all is written
		conn.(*zmtptest.Conn).CloseWrite()
	}
	done.Wait() // the socket has read all of it and closed
}
