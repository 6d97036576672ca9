package pipeline

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// renameNew moves the file old of src to the name new in dst, which must not exist;
// else the error is fs.ErrExist.
func renameNew(src *os.Root, old string, dst *os.Root, new string) error {
	return renameReserving(src, old, dst, new)
}

// changeTime returns when the file was last written: Windows keeps no change time.
func changeTime(fi os.FileInfo) time.Time { return fi.ModTime() }

// invalidName reports whether the system refuses a file name with errno.
func invalidName(errno syscall.Errno) bool { return errno == windows.ERROR_INVALID_NAME }
