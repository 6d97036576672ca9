package zmtp

import (
	"net"
	"syscall"
)

// QueuedConn is a connection that knows how much is under way on it, and whose Write can be
// continued after a timeout. Connections of other kinds than those of package net and crypto/tls
// should implement it: Socket.Shutdown uses it, and long writes count their progress.
type QueuedConn interface {
	net.Conn
	// Buffered returns how many bytes the other end has written that have not been read.
	Buffered() int
	// Unacknowledged returns how many bytes of those that were written have not arrived at the
	// other end.
	Unacknowledged() int
	// Ended reports whether the other end has closed its direction, or the connection: then what is
	// left to read is what Buffered says.
	Ended() bool
}

// ended reports whether conn has received the end of what its peer sends. It is false where that
// cannot be known.
func ended(conn net.Conn) bool {
	switch c := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return kernelEnded(c.(syscall.Conn))
	case QueuedConn:
		return c.Ended()
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return ended(c.NetConn())
	}
	return false
}

// queued returns how many bytes have arrived on conn and were not read, and how many bytes were
// written that the peer's host has not acknowledged. ok is false if that cannot be known.
func queued(conn net.Conn) (unread, unacknowledged int, ok bool) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return kernelQueues(c)
	case *net.UnixConn:
		unread, _, ok = kernelQueues(c)
		return unread, 0, ok // the peer has what was written, even after a close
	case QueuedConn:
		return c.Buffered(), c.Unacknowledged(), true
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return queued(c.NetConn())
	}
	return 0, 0, false
}

// arrivesAtOnce reports whether all that the peer has written has arrived on conn, since there is
// no network between them.
func arrivesAtOnce(conn net.Conn) bool {
	switch conn.(type) {
	case *net.UnixConn, QueuedConn:
		return true
	}
	return false
}
