//go:build unix

package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir makes sure that no other logger writes to a folder, until the folder is closed. It
// reports whether there is one. A file system that knows no locks has none.
func lockDir(dir *os.File) (taken bool) {
	return unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}
