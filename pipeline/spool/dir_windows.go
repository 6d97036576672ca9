package spool

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFolder makes sure that no other process uses a folder, until what it returns is closed. It
// reports whether one does. A folder itself cannot be locked here, so a file in it is.
func lockFolder(root *os.Root) (lock *os.File, taken bool, err error) {
	lock, err = root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, false, err
	}
	err = windows.LockFileEx(windows.Handle(lock.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		lock.Close()
		return nil, true, nil
	}
	return lock, false, nil
}
