package netsock

import "syscall"

// sys/socket.h
const (
	receiveQueue = 0x1020 // SO_NREAD
	sendQueue    = 0x1024 // SO_NWRITE
)

func queueSize(fd uintptr, option uint) (int, error) {
	return syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, int(option))
}
