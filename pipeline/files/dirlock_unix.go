//go:build unix

package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir keeps other loggers out of a folder until the folder is closed. It reports whether one is
// there already. On a file system without locks it does nothing.
func lockDir(dir *os.File) (taken bool) {
	return unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}
