package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"zmtpd/pipeline/internal/dirlock"
)

// folder is an open log folder. When the path of the log folder leads to another one, new files go
// there; rotations that are under way in the old folder end in it.
type folder struct {
	*os.Root
	lock  *os.File // keeps other loggers out of Root
	info  os.FileInfo
	users atomic.Int32 // the logger and every rotation; the last one closes it
}

// openFolder opens and locks the log folder. It makes that of Options.LogDir.
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
	if f.info, err = root.Stat("."); err != nil {
		return nil, err
	}
	var taken bool
	if f.lock, taken, err = dirlock.Lock(root); err != nil {
		return nil, err
	}
	if taken {
		return nil, fmt.Errorf("another logger writes to %s: give this one a folder of its own",
			dir)
	}
	return f, checkWritable(root)
}

// checkWritable returns an error if no file can be made in a folder. A full disk is no error: the
// senders wait until there is room.
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

// release ends one use of a folder.
func (f *folder) release() {
	if f.users.Add(-1) == 0 {
		_ = f.close() // no file was written through it
	}
}

// folder returns the log folder.
func (l *Logger) folder() *folder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// useFolder returns the log folder; the caller releases it.
func (l *Logger) useFolder() *folder {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.users.Add(1)
	return l.current
}

// followFolder checks that the path of the log folder still leads to it. If it was moved or removed
// and there is another one, that is the log folder from now on.
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
	l.log.Warn("the log folder was moved or removed, logs go on in the one that is there now",
		"dir", l.logDir)
	return nil
}

// folderFailed notes that there is no log folder, and logs it once.
func (l *Logger) folderFailed(err error) error {
	l.mu.Lock()
	news := l.folderErr == nil
	l.folderErr = err
	l.mu.Unlock()
	l.state.failed(err)
	if news {
		l.log.Error("the log folder was moved or removed, the senders wait: make it again",
			"dir", l.logDir, "err", err)
	}
	return err
}
