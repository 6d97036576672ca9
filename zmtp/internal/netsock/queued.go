// Package netsock has what package net does not offer about its sockets: reads and writes that Go's
// scheduler does not notice, what waits in the kernel, and whether the peer has ended.
package netsock

import (
	"net"
	"syscall"
)

// Counted is a connection of another kind that knows the same of itself. The methods are those of
// zmtp.QueuedConn, where they are explained.
type Counted interface {
	net.Conn
	Buffered() int
	Unacknowledged() int
	Ended() bool
}

// Ended reports whether conn has received the end of what its peer sends. It is false where that
// cannot be known.
func Ended(conn net.Conn) bool {
	switch c := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return kernelEnded(c.(syscall.Conn))
	case Counted:
		return c.Ended()
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return Ended(c.NetConn())
	}
	return false
}

// Queued returns how many bytes have arrived on conn and were not read, and how many bytes were
// written that the peer's host has not acknowledged. ok is false if that cannot be known.
func Queued(conn net.Conn) (unread, unacknowledged int, ok bool) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return kernelQueues(c)
	case *net.UnixConn:
		unread, _, ok = kernelQueues(c)
		return unread, 0, ok // the peer has what was written, even after a close
	case Counted:
		return c.Buffered(), c.Unacknowledged(), true
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return Queued(c.NetConn())
	}
	return 0, 0, false
}

// ArrivesAtOnce reports whether all that the peer has written has arrived on conn, since there is
// no network between them.
func ArrivesAtOnce(conn net.Conn) bool {
	switch conn.(type) {
	case *net.UnixConn, Counted:
		return true
	}
	return false
}
