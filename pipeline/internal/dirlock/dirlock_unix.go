//go:build unix

package dirlock

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks a folder until the returned file is closed. If another process, or another call in
// this one, holds the lock, Lock returns taken and no file. On a file system without locks it does
// nothing.
func Lock(root *os.Root) (lock *os.File, taken bool, err error) {
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
