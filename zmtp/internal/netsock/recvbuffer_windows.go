package netsock

import "syscall"

// SetRecvBuffer sets SO_RCVBUF if the kernel allows it; the default is good enough.
func SetRecvBuffer(fd uintptr, n int) {
	syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, n)
}
