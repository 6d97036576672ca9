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

// create makes that there is a file: the one that is parked, or a new one, which it begins.
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
		// Of a folder of its own a log path may not stop the others.
		return &pipeline.DropError{Reason: pipeline.ReasonPath, Err: err}, nil
	}
	if err != nil {
		return nil, f.fail(err)
	}
	f.buf = f.render.main.AppendHeader(f.buf, now.In(f.log.l.location))
	return nil, nil
}

// open creates the file of that name, or of another one if the name turns out not
// to be free. On error everything is as it was.
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

// use opens the file of that name, with a flag that says whether it is there, and makes it that of f.
func (f *logFile) use(name string, flag int) (err error) {
	l := f.log.l
	var zip *gzipStream
	if level := l.options.GzipLevel; level > 0 {
		if zip, err = newGzipStream(level); err != nil {
			return err
		}
	}
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
	f.f, f.zip, f.zipped, f.name, f.info, f.seen = opened, zip, 0, name, fi, true
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

// claim makes the name free for a file, or finds another one, and makes its folder.
func (f *logFile) claim(name string) (string, error) {
	l := f.log.l
	for {
		fi, err := l.folder().Lstat(name + l.ext)
		switch {
		case err == nil && !fi.Mode().IsRegular():
			return "", &fs.PathError{Op: "create", Path: name + l.ext, Err: errors.New("there is something that is no log file")}
		case err == nil && l.isOpen(fi):
			// The file system takes two names for the same, by upper and lower case perhaps.
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

// openInFolder opens a file of the log folder for appending. flag says whether it is there.
func (l *Logger) openInFolder(name string, flag int) (file, error) {
	return l.folder().OpenFile(name, os.O_WRONLY|os.O_APPEND|flag, 0o666)
}

// isOpen reports whether fi is one of the logger's own open files.
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

// pathError reports whether a file cannot be created because of its name, so
// that waiting for it would be in vain. What is not known to be so is worth
// another try: nothing may be lost for an error that goes away.
func pathError(err error) bool {
	if err == nil {
		return false
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return errors.As(err, new(*fs.PathError)) // os.Root: a symbolic link leads out of the folder
	}
	switch errno {
	case syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.EILSEQ, syscall.EINVAL:
		return true
	}
	return invalidName(errno)
}
