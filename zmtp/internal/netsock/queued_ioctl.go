//go:build linux || freebsd

package netsock

import (
	"syscall"
	"unsafe"
)

func queueSize(fd uintptr, request uint) (int, error) {
	var n int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, uintptr(request),
		uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
