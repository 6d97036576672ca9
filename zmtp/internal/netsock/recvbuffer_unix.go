//go:build unix

package netsock

import "syscall"

// SetRecvBuffer sets SO_RCVBUF if the kernel allows it; the default is good enough.
func SetRecvBuffer(fd uintptr, n int) {
	syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, n)
}
