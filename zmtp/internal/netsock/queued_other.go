//go:build !linux && !freebsd && !darwin

package netsock

import "syscall"

func kernelQueues(syscall.Conn) (unread, unsent int, ok bool) { return 0, 0, false }
