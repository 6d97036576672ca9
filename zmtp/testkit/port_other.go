//go:build !unix

package testkit

import (
	"net"
	"testing"
)

// ReservePort returns a TCP port of 127.0.0.1 on which nobody listens.
func ReservePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
