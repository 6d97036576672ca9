package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"zmtpd/pipeline/zeek"
)

// file is what a logFile needs of an *os.File that is opened for appending.
type file interface {
	Write([]byte) (int, error)
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Sync() error
	Close() error
}

const (
	flushSize = 64 << 10 // bytes in the buffer that are written without waiting for the timer
	keepSize  = 1 << 20  // a larger buffer is not kept
)

// logFile is one open file, or the place for one: after a rotation the next batch
// creates it again. Its log's mu guards it, and is held when its methods are
// called.
type logFile struct {
	log      *streamLog
	schema   *zeek.Schema
	renderer *zeek.Renderer // lives as long as the logFile: what it escapes depends on earlier records

	f       file      // nil while there is none
	name    string    // of f, without extension; empty while there is none
	side    string    // the name to take while other columns have the log's own; empty until needed
	opened  time.Time // the opening time for the name of the rotated file
	lastUse time.Time // of the last batch
	seen    bool      // it had a file before
	evicted bool      // not to be used any more

	buf    []byte // text that is not in f yet; empty while there is no f
	queued Counts // the batches in buf
	footer bool   // #close was appended: the file must be ended before anything else
	torn   int    // bytes at the end of f from a write that failed halfway
	err    error  // why it cannot be written now, nil if it can
}

// accept renders a batch into the buffer. A DropError means that the batch never
// can be written; an error that the file cannot be written now.
func (f *logFile) accept(b zeek.Batch) (*DropError, error) {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	if f.evicted {
		return nil, errEvicted
	}
	now := time.Now()
	if err := f.log.rotateIfDue(now); err != nil {
		return nil, err
	}
	if f.footer {
		if err := f.rotate(now); err != nil {
			return nil, err
		}
	}
	if f.err != nil && f.f != nil {
		if err := f.flush(); err != nil {
			return nil, err
		}
	}
	created := f.f == nil
	if created {
		name, err := f.log.name(f, now)
		if err != nil {
			return nil, err
		}
		err = f.open(name)
		if pathError(err) || errors.Is(err, fs.ErrPermission) && strings.Contains(f.log.key.path, "/") {
			// Of a folder of its own a log path may not stop the others.
			return &DropError{ReasonPath, err}, nil
		}
		if err != nil {
			return nil, f.fail(err)
		}
		f.buf = f.renderer.AppendHeader(f.buf, now.In(f.log.l.location))
	}
	f.lastUse = now
	buf, records, err := f.renderer.AppendRecords(f.buf, b)
	if err != nil {
		if created {
			f.remove()
		}
		return dropBatch(err), nil
	}
	f.buf = buf
	f.queued.add(Counts{1, uint64(records)})
	if len(f.buf) >= flushSize {
		// If it fails the batch stays in the buffer, and the next one waits.
		_ = f.flush()
	}
	return nil, nil
}

// fail notes that the file cannot be written, and logs it if that is news.
func (f *logFile) fail(err error) error {
	l := f.log.l
	l.acct.failed(err)
	if f.err == nil {
		l.log.Error("log cannot be written, its senders wait", "path", f.log.key.path, "err", err)
	}
	f.err = err
	return err
}

// succeed notes that the file can be written.
func (f *logFile) succeed() {
	if f.err != nil {
		f.log.l.log.Info("log can be written again", "path", f.log.key.path)
		f.err = nil
	}
}

// flush writes the buffer to the file. On error the file is as it was before, or
// torn says by how much it is too long, and the buffer is kept for another try.
func (f *logFile) flush() error {
	if f.f == nil || len(f.buf) == 0 && f.queued == (Counts{}) {
		return nil
	}
	if err := f.mend(); err != nil {
		return f.fail(err)
	}
	n, err := 0, error(nil)
	if len(f.buf) > 0 {
		n, err = f.f.Write(f.buf)
	}
	if err != nil {
		f.torn = n
		_ = f.mend() // else before the next try
		return f.fail(err)
	}
	f.succeed()
	a := &f.log.l.acct
	a.mu.Lock()
	a.queued.sub(f.queued)
	a.written.add(f.queued)
	f.log.stats.Written.add(f.queued)
	f.log.stats.Bytes += uint64(n)
	a.mu.Unlock()
	f.queued = Counts{}
	if f.buf = f.buf[:0]; cap(f.buf) > keepSize {
		f.buf = nil
	}
	return nil
}

// mend cuts off what a write left that failed halfway, so that no reader takes
// half a line for a record. That needs no space on the disk.
func (f *logFile) mend() error {
	if f.torn == 0 {
		return nil
	}
	fi, err := f.f.Stat()
	if err != nil {
		return err
	}
	if err := f.f.Truncate(max(0, fi.Size()-int64(f.torn))); err != nil {
		return err
	}
	f.torn = 0
	return nil
}

// open creates the file of that name, or of another one if the name turns out not
// to be free.
func (f *logFile) open(name string) (err error) {
	l := f.log.l
	for {
		fi, err := l.root.Lstat(name + l.ext)
		switch {
		case err == nil && !fi.Mode().IsRegular():
			return &fs.PathError{Op: "create", Path: name + l.ext, Err: errors.New("there is something that is no log file")}
		case err == nil && l.isOpen(fi):
			// The file system takes two names for the same, by upper and lower case perhaps.
			name = f.log.rename(f, name)
			continue
		case err == nil:
			if err := l.moveAside(name, fi); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		break
	}
	if dir := path.Dir(name); dir != "." {
		if err := l.root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	if l.shadows() {
		if err := l.writeShadow(name); err != nil {
			return err
		}
	}
	if f.f, err = l.openFile(name + l.ext); err != nil {
		f.f = nil
		return err
	}
	f.name, f.seen = name, true
	f.succeed()
	fi, err := f.f.Stat()
	l.mu.Lock()
	if err == nil {
		l.open[f] = fi
	}
	l.mu.Unlock()
	l.acct.mu.Lock()
	l.acct.openFiles++
	l.acct.mu.Unlock()
	return nil
}

// createFile creates a file in the log folder, which must not be there.
func (l *Logger) createFile(name string) (file, error) {
	return l.root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o666)
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

// finish ends the file with #close at the time at, and closes it. On error it can
// be called again.
func (f *logFile) finish(at time.Time) error {
	if !f.footer {
		f.buf = f.renderer.AppendFooter(f.buf, at.In(f.log.l.location))
		f.footer = true
	}
	if err := f.flush(); err != nil {
		return err
	}
	err := f.f.Sync()
	if e := f.closeFile(); err == nil {
		err = e
	}
	if err != nil {
		// The system took the bytes and then could not keep them. There is nothing left
		// to try again.
		l := f.log.l
		l.acct.failed(err)
		l.log.Error("log may be incomplete on disk", "path", f.log.key.path, "err", err)
	}
	return nil
}

// closeFile lets go of the file, whatever is in the buffer.
func (f *logFile) closeFile() error {
	l := f.log.l
	err := f.f.Close()
	f.f, f.name, f.buf, f.queued, f.footer, f.torn = nil, "", f.buf[:0], Counts{}, false, 0
	l.mu.Lock()
	delete(l.open, f)
	l.mu.Unlock()
	l.acct.mu.Lock()
	l.acct.openFiles--
	l.acct.mu.Unlock()
	return err
}

// remove takes back a file that was just created.
func (f *logFile) remove() {
	l, name := f.log.l, f.name
	err := f.closeFile()
	if e := l.root.Remove(name + l.ext); err == nil {
		err = e
	}
	if l.shadows() {
		l.removeShadow(name)
	}
	if err != nil {
		l.acct.failed(err)
	}
}

// end ends the file for good: rotated if there is an interval, under its name if
// not. On error it can be called again.
func (f *logFile) end(now time.Time) error {
	if f.f == nil {
		return nil
	}
	if f.log.l.options.RotationInterval > 0 {
		return f.rotate(now)
	}
	return f.finish(now)
}

// abandon gives up what is in the buffer, because of err.
func (f *logFile) abandon(err error) error {
	lost := f.queued
	a := &f.log.l.acct
	a.mu.Lock()
	a.dropQueued(lost, ReasonWrite)
	a.mu.Unlock()
	_ = f.mend()
	_ = f.closeFile()
	return &LostError{f.log.key.path, lost, err}
}

// rotate ends the file at the time at and moves it to its rotated name. Without a
// file only the opening time of the next one changes. On error, which can only be
// that of the last write, it can be called again; a file that cannot be moved
// stays under its name, and the next one of that name moves it aside.
func (f *logFile) rotate(at time.Time) error {
	l, name, opened := f.log.l, f.name, f.opened
	if f.f != nil {
		if err := f.finish(at); err != nil {
			return fmt.Errorf("rotation: %w", err)
		}
		if _, err := l.moveRotated(name, opened); err == nil && l.shadows() {
			l.removeShadow(name)
		}
	}
	f.opened = at
	return nil
}
