package files

import (
	"errors"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// renameNew moves the file old of src to the name new in dst. The error is fs.ErrExist if that
// exists.
func renameNew(src *os.Root, old string, dst *os.Root, new string) error {
	from, err := src.Open(path.Dir(old))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := dst.Open(path.Dir(new))
	if err != nil {
		return err
	}
	defer to.Close()
	err = unix.Renameat2(int(from.Fd()), path.Base(old), int(to.Fd()), path.Base(new),
		unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // the file system cannot do it
		err = renameReserving(src, old, dst, new)
	} else if err != nil {
		err = &os.LinkError{Op: "rename", Old: path.Join(src.Name(), old),
			New: path.Join(dst.Name(), new), Err: err}
	}
	if err != nil {
		return err
	}
	// The file has moved, even if the file system cannot sync folders.
	_, _ = to.Sync(), from.Sync()
	return nil
}

// changeTime returns when the file's inode last changed.
func changeTime(fi os.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
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

// Reserve implements file: the file system sets the room aside.
func (f osFile) Reserve(n int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, fi.Size(), n)
	switch err {
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO:
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil // else the file system does not know the call
}
