package files

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// renameNew moves the file old of src to the name new in dst. The error is fs.ErrExist if that
// exists.
func renameNew(src *os.Root, old string, dst *os.Root, new string) error {
	return renameReserving(src, old, dst, new)
}

// changeTime returns when the file was last written: Windows keeps no change time.
func changeTime(fi os.FileInfo) time.Time { return fi.ModTime() }

// links returns how many names a file has: an open one keeps its name here.
func links(os.FileInfo) uint64 { return 1 }

// invalidName reports whether the system refuses a file name with errno.
func invalidName(errno syscall.Errno) bool { return errno == windows.ERROR_INVALID_NAME }

// crossDevice reports whether a move failed because the new name is on another file system.
func crossDevice(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }

// clockLayout is the time of day in the names of archived logs: a colon cannot be in a name.
const clockLayout = "15.04.05"

// Reserve implements file.
func (f osFile) Reserve(int64) error { return nil }
