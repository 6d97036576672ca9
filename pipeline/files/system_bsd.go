//go:build darwin || freebsd

package files

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// renameNew moves the file old of src to the name new in dst. The error is fs.ErrExist if that
// exists.
func renameNew(src *os.Root, old string, dst *os.Root, new string) error {
	return renameReserving(src, old, dst, new)
}

// changeTime returns when the file's inode last changed.
func changeTime(fi os.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctimespec.Unix())
	}
	return fi.ModTime()
}

// links returns the number of names of a file.
func links(fi os.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}

// invalidName reports whether the system refuses a file name with errno.
func invalidName(syscall.Errno) bool { return false }

// crossDevice reports whether a move failed because the new name is on another file system.
func crossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }

// clockLayout is the time of day in the names of archived logs.
const clockLayout = "15:04:05"

// Reserve implements file.
func (f osFile) Reserve(int64) error { return nil }
