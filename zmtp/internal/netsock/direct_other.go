//go:build !linux && !freebsd

package netsock

import (
	"io"
	"net"
)

// NewReader returns conn.
func NewReader(conn net.Conn) io.Reader { return conn }

// NewWriter returns the writer of package net for conn, or nil if writes to conn cannot be
// continued after a timeout.
func NewWriter(conn net.Conn) Writer { return newBuffersWriter(conn) }
