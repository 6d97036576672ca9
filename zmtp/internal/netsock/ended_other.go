//go:build !linux

package netsock

import "syscall"

// kernelEnded cannot know.
func kernelEnded(syscall.Conn) bool { return false }
