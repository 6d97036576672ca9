//go:build !linux && !freebsd

package zmtp

import (
	"io"
	"net"
)

func newDirectReader(conn net.Conn) io.Reader { return conn }

func newVectorWriter(conn net.Conn) vectorWriter { return newBuffersWriter(conn) }
