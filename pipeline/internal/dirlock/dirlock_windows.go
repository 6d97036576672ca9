package dirlock

import (
	"os"

	"golang.org/x/sys/windows"
)

// Lock locks a folder until the returned file is closed. If another process, or another call in
// this one, holds the lock, Lock returns taken and no file. Windows cannot lock a folder, so Lock
// locks a file in it.
func Lock(root *os.Root) (lock *os.File, taken bool, err error) {
	lock, err = root.OpenFile(".lock", os.O_RDWR|os.O_CREATE, 0o666)
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
