package netsock

import (
	"syscall"
	"unsafe"
)

// pollEnded is POLLRDHUP of poll(2).
const pollEnded = 0x2000

// kernelEnded reports whether a connection has received FIN or RST.
func kernelEnded(c syscall.Conn) (ended bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		p := struct {
			fd              int32
			events, revents int16
		}{fd: int32(fd), events: pollEnded}
		var now syscall.Timespec
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1,
			uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		ended = errno == 0 && p.revents != 0
	})
	return ended || err != nil
}
