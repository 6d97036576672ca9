//go:build linux || freebsd || darwin

package netsock

import "syscall"

// kernelQueues returns how many bytes of a connection its receive queue and its send queue hold. A
// closed one has none.
func kernelQueues(c syscall.Conn) (unread, unsent int, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	ok = true
	err = raw.Control(func(fd uintptr) {
		for _, q := range []struct {
			size    *int
			request uint
		}{{&unread, receiveQueue}, {&unsent, sendQueue}} {
			n, err := queueSize(fd, q.request)
			*q.size, ok = n, ok && err == nil
		}
	})
	if err != nil {
		return 0, 0, true
	}
	return unread, unsent, ok
}
