package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"zmtpd/pipeline"
)

// create reopens the parked file, or creates a new one and begins it with a header.
func (f *logFile) create(now time.Time) (*pipeline.DropError, error) {
	if err := f.resume(); err != nil {
		return nil, f.fail(err)
	}
	if f.f != nil {
		return nil, nil
	}
	name, err := f.log.name(f, now)
	if err != nil {
		return nil, err
	}
	err = f.open(name)
	if pathError(err) || errors.Is(err, fs.ErrPermission) && strings.Contains(f.log.key.Path, "/") {
		// A path with a folder that cannot be written must not hold up its sender's other logs.
		return &pipeline.DropError{Reason: pipeline.ReasonPath, Err: err}, nil
	}
	if err != nil {
		return nil, f.fail(err)
	}
	f.buf = f.render.main.AppendHeader(f.buf, now.In(f.log.l.location))
	return nil, nil
}

// open creates a file of that name, or of another one if the name is not free. On error f is
// unchanged.
func (f *logFile) open(name string) (err error) {
	l := f.log.l
	if !l.options.Stdout {
		if name, err = f.claim(name); err != nil {
			return err
		}
		if l.shadows() {
			if err := l.writeShadow(name); err != nil {
				return err
			}
		}
	}
	return f.use(name, os.O_CREATE|os.O_EXCL)
}

// use opens a file and makes it that of f. flag is 0 for an existing file, else O_CREATE with
// O_EXCL.
func (f *logFile) use(name string, flag int) (err error) {
	l := f.log.l
	opened, err := l.openInLimit(f, name+l.ext, flag)
	if err != nil {
		return err
	}
	var fi os.FileInfo
	if !l.options.Stdout {
		if fi, err = opened.Stat(); err != nil {
			_ = opened.Close()
			l.state.closed()
			return err
		}
	}
	if l.options.GzipLevel > 0 {
		if err := f.compress(); err != nil {
			_ = opened.Close()
			l.state.closed()
			return err
		}
	}
	f.f, f.name, f.info = opened, name, fi
	if flag&os.O_CREATE != 0 {
		f.size = 0
	}
	f.succeed()
	if fi != nil {
		l.mu.Lock()
		l.open[f] = fi
		l.mu.Unlock()
	}
	return nil
}

// claim makes the name free for a new file, or finds another name, and makes its folder.
func (f *logFile) claim(name string) (string, error) {
	l := f.log.l
	for {
		fi, err := l.folder().Lstat(name + l.ext)
		switch {
		case err == nil && !fi.Mode().IsRegular():
			return "", &fs.PathError{Op: "create", Path: name + l.ext,
				Err: errors.New("something that is no file has this name")}
		case err == nil && l.isOpen(fi):
			// The file system does not tell two names apart, such as by upper and lower case.
			name = f.log.rename(f, name)
			continue
		case err == nil:
			if err := l.moveAside(f.log, name, fi); err != nil {
				return "", err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		break
	}
	if dir := path.Dir(name); dir != "." {
		if err := l.folder().MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
	}
	return name, nil
}

// osFile is a file of the log folder. Its Reserve is that of the system.
type osFile struct{ *os.File }

// openInFolder opens a file of the log folder for appending. flag is as in use.
func (l *Logger) openInFolder(name string, flag int) (file, error) {
	f, err := l.folder().OpenFile(name, os.O_WRONLY|os.O_APPEND|flag, 0o666)
	if err != nil {
		return nil, err // not a nil *os.File, which would be a file that is not nil
	}
	return osFile{f}, nil
}

// isOpen reports whether fi is an open or parked file of the logger.
func (l *Logger) isOpen(fi os.FileInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, open := range l.open {
		if os.SameFile(open, fi) {
			return true
		}
	}
	return false
}

// pathError reports whether a file cannot be created because of its name, so that waiting would be
// in vain. Any other error may go away, so it must not cost records.
func pathError(err error) bool {
	if err == nil {
		return false
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return errors.As(err, new(*fs.PathError)) // from os.Root: a link leads out of the folder
	}
	switch errno {
	case syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.EILSEQ,
		syscall.EINVAL:
		return true
	}
	return invalidName(errno)
}
