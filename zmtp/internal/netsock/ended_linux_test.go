package netsock

import (
	"net"
	"path/filepath"
	"testing"

	"zmtpd/zmtp/testkit"
)

// TestEnded: a peer has ended when its FIN or RST has come, whether what it sent before was read or
// not.
func TestEnded(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, how := range []string{"half", "whole", "reset"} {
			t.Run(network+"/"+how, func(t *testing.T) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = filepath.Join(t.TempDir(), "s")
				}
				ln, err := net.Listen(network, address)
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				peer, err := net.Dial(network, ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := peer.Write(make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				if Ended(conn) {
					t.Error("the peer has ended before it does")
				}
				tcp, isTCP := peer.(*net.TCPConn)
				switch {
				case how == "half":
					err = peer.(interface{ CloseWrite() error }).CloseWrite()
				case how == "reset" && isTCP:
					tcp.SetLinger(0)
					err = tcp.Close()
				default:
					err = peer.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "the end", func() bool { return Ended(conn) })
				conn.Close()
				if !Ended(conn) {
					t.Error("a closed connection has not ended")
				}
			})
		}
	}
}
