package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
)

// folder is the log folder as it was opened. When its path leads to another one, new files go there, and what is
// under way in the old one ends there.
type folder struct {
	*os.Root
	lock  *os.File // Root, locked against other loggers
	info  os.FileInfo
	users atomic.Int32 // the logger, and every rotation; the last one closes it
}

// openFolder opens the log folder, which it makes if it has a name of its own, and locks it.
func (l *Logger) openFolder() (_ *folder, err error) {
	dir := l.logDir
	if l.options.LogDir != "" {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{Root: root}
	f.users.Store(1)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.lock, err = root.Open("."); err != nil {
		return nil, err
	}
	if f.info, err = f.lock.Stat(); err != nil {
		return nil, err
	}
	if lockDir(f.lock) {
		return nil, fmt.Errorf("another logger writes to %s: give this one a folder of its own", dir)
	}
	return f, checkWritable(root)
}

// checkWritable returns an error if no files can be made in a folder, but not if its disk is full: then the senders
// wait until there is room.
func checkWritable(root *os.Root) error {
	const probe = ".tmp.probe"
	f, err := root.OpenFile(probe, os.O_WRONLY|os.O_CREATE, 0o666)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", root.Name(), err)
	}
	return errors.Join(f.Close(), root.Remove(probe))
}

func (f *folder) close() error {
	var err error
	if f.lock != nil {
		err = f.lock.Close()
	}
	return errors.Join(err, f.Root.Close())
}

// release ends the use of a folder.
func (f *folder) release() {
	if f.users.Add(-1) == 0 {
		_ = f.close() // nothing was written through it
	}
}

// folder returns the log folder.
func (l *Logger) folder() *folder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// useFolder returns the log folder, for a user who releases it.
func (l *Logger) useFolder() *folder {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.users.Add(1)
	return l.current
}

// followFolder looks whether the path of the log folder still leads to it. If it was moved or removed and another one
// is there, that is the log folder from now on.
func (l *Logger) followFolder() error {
	l.following.lock()
	defer l.following.unlock()
	return l.lookAtFolder()
}

// lookAtFolder is followFolder for a caller who holds following.
func (l *Logger) lookAtFolder() error {
	fi, err := os.Stat(l.logDir)
	if err == nil && os.SameFile(fi, l.folder().info) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.folderFailed(err)
	}
	next, err := l.openFolder()
	if err != nil {
		return l.folderFailed(err)
	}
	l.mu.Lock()
	old := l.current
	l.current, l.folderErr = next, nil
	l.mu.Unlock()
	old.release()
	l.log.Warn("the log folder was moved or removed, logs go on in the one that is there now", "dir", l.logDir)
	return nil
}

// folderFailed notes that there is no log folder, and logs it if that is news.
func (l *Logger) folderFailed(err error) error {
	l.mu.Lock()
	news := l.folderErr == nil
	l.folderErr = err
	l.mu.Unlock()
	l.state.failed(err)
	if news {
		l.log.Error("the log folder was moved or removed, the senders wait: make it again", "dir", l.logDir, "err", err)
	}
	return err
}
