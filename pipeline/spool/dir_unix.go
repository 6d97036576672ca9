//go:build unix

package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFolder makes sure that no other process uses a folder, until what it returns is closed. It
// reports whether one does. A file system that knows no locks has none.
func lockFolder(root *os.Root) (lock *os.File, taken bool, err error) {
	lock, err = root.Open(".")
	if err != nil {
		return nil, false, err
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
		lock.Close()
		return nil, true, nil
	}
	return lock, false, nil
}
