package zmtp

import "net"

// QueuedConn is a connection that knows what is under way on it, and whose Write can be continued
// after it has timed out. Connections of package net and crypto/tls need not implement it; one of
// another kind, given through Config.Dial or Socket.Serve, should: Socket.Shutdown asks it, and a
// write that takes long is seen to make progress.
type QueuedConn interface {
	net.Conn
	// Buffered returns how many bytes the other end has written that have not been read.
	Buffered() int
	// Unacknowledged returns how many bytes of those that were written have not arrived at the
	// other end.
	Unacknowledged() int
}

// queued returns how many bytes have come on conn and have not been read, and how many of those
// that were written the peer's host has not acknowledged. It is not ok if that cannot be known.
func queued(conn net.Conn) (unread, unacknowledged int, ok bool) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return kernelQueues(c)
	case *net.UnixConn:
		unread, _, ok = kernelQueues(c)
		return unread, 0, ok // what was written is with the peer, also when this end is closed
	case QueuedConn:
		return c.Buffered(), c.Unacknowledged(), true
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return queued(c.NetConn())
	}
	return 0, 0, false
}

// arrivesAtOnce reports whether nothing that the peer has written is anywhere but among what has
// come on conn.
func arrivesAtOnce(conn net.Conn) bool {
	switch conn.(type) {
	case *net.UnixConn, QueuedConn:
		return true
	}
	return false
}
