package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"zmtpd/pipeline"
)

// file is what a logFile needs of an *os.File that is opened for appending.
type file interface {
	Write([]byte) (int, error)
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Sync() error
	Close() error
}

const flushSize = 64 << 10 // bytes in the buffer that are written without waiting for the timer

// logFile is one open file, or the place for one: after a rotation the next batch
// creates it again. Its log's mu guards it, and is held when its methods are
// called.
type logFile struct {
	log    *streamLog
	render *renderers // lives as long as the logFile: what is escaped may depend on earlier records

	f       file      // nil while there is none
	name    string    // of f, without extension; empty while there is none
	side    string    // the name to take while other columns have the log's own; empty until needed
	opened  time.Time // the opening time for the name of the rotated file
	lastUse time.Time // of the last batch
	seen    bool      // it had a file before
	evicted bool      // not to be used any more

	buf    []byte          // text that is not in f yet, nor in zip; empty while there is no f
	zip    *gzipStream     // between buf and f, nil without compression
	queued pipeline.Shares // the batches in buf and zip
	inBuf  []delivery      // those of them that a Sink's caller waits for
	footer bool            // #close was appended: the file must be ended before anything else
	size   int64           // bytes in f
	torn   int             // bytes at the end of f from a write that failed halfway
	err    error           // why it cannot be written now, nil if it can
}

// accept renders a batch of one sender into the buffer. A DropError means that the batch never
// can be written; an error that the file cannot be written now.
//
// It renders before it takes the lock, so that all cores can render for one log.
func (f *logFile) accept(ctx context.Context, in *intake) (*pipeline.DropError, error) {
	l, b := f.log.l, in.batch
	text := getScratch()
	defer putScratch(text)
	var err error
	if !f.render.ordered {
		if *text, err = f.render.appendRecords(*text, b); err != nil {
			return pipeline.DropBatch(err), nil
		}
	}
	if !f.log.mu.lockUntil(ctx, l.giveUp) {
		return nil, errBusy
	}
	defer f.log.mu.unlock()
	if f.evicted {
		return nil, errEvicted
	}
	now := time.Now()
	if err := f.makeReady(now); err != nil {
		return nil, err
	}
	if f.render.ordered {
		if *text, _, err = f.render.main.AppendRecords(*text, b); err != nil {
			return pipeline.DropBatch(err), nil
		}
	}
	if f.f == nil {
		if e, err := f.create(now); e != nil || err != nil {
			f.render.main.Rollback()
			return e, err
		}
	}
	f.lastUse = now
	if len(f.buf) == 0 {
		f.buf, *text = *text, f.buf
	} else {
		f.buf = append(f.buf, *text...)
	}
	f.queued.Add(in.from, in.counts())
	if in.entry != nil {
		f.inBuf = append(f.inBuf, delivery{in.entry, in.from, in.counts()})
		in.entry.Taken()
	}
	if len(f.buf) >= flushSize {
		// If it fails the batch stays in the buffer, and the next one waits.
		_ = f.flush()
	}
	if most := l.maxFileSize; most > 0 && f.size+int64(len(f.buf)) >= most {
		_ = f.rotate(now) // again before the next batch if it fails
	}
	return nil, nil
}

// errBusy says that something hangs with the lock of a log in its hands.
var errBusy = errors.New("the file system does not answer")

// makeReady does what must be done before another batch may follow: rotation, and
// a write that failed.
func (f *logFile) makeReady(now time.Time) error {
	if err := f.log.rotateIfDue(now); err != nil {
		return err
	}
	if f.footer {
		if err := f.rotate(now); err != nil {
			return err
		}
	}
	if f.err != nil && f.f != nil {
		return f.flush()
	}
	return nil
}

// create creates the file and begins it.
func (f *logFile) create(now time.Time) (*pipeline.DropError, error) {
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

// fail notes that the file cannot be written, and logs it if that is news.
func (f *logFile) fail(err error) error {
	l := f.log.l
	l.state.failed(err)
	if f.err == nil {
		l.log.Error("log cannot be written, its senders wait", "path", f.log.key.Path, "err", err)
	}
	f.err = err
	return err
}

// succeed notes that the file can be written.
func (f *logFile) succeed() {
	if f.err != nil {
		f.log.l.log.Info("log can be written again", "path", f.log.key.Path)
		f.err = nil
	}
}

// flush writes the buffer to the file. On error the file is as it was before, or
// torn says by how much it is too long, and the buffer is kept for another try.
func (f *logFile) flush() error {
	if f.f == nil || len(f.buf) == 0 && len(f.queued) == 0 && !f.zip.pending(f.footer) {
		return nil
	}
	if err := f.mend(); err != nil {
		return f.fail(err)
	}
	data := f.buf
	if f.zip != nil {
		f.zip.add(f.buf, f.footer)
		f.buf = f.buf[:0]
		data = f.zip.out.Bytes()
	}
	n, err := 0, error(nil)
	if len(data) > 0 {
		n, err = f.f.Write(data)
	}
	if err != nil {
		f.torn = n
		_ = f.mend() // else before the next try
		return f.fail(err)
	}
	f.succeed()
	f.size += int64(n)
	f.log.l.acct.Wrote(f.log.stats, f.queued, n)
	f.queued = f.queued[:0]
	for _, d := range f.inBuf {
		d.entry.Done(nil)
	}
	clear(f.inBuf)
	f.inBuf = f.inBuf[:0]
	if f.zip != nil {
		f.zip.written()
	}
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
	var zip *gzipStream
	if level := l.options.GzipLevel; level > 0 {
		if zip, err = newGzipStream(level); err != nil {
			return err
		}
	}
	opened, err := l.openFile(name + l.ext)
	if err != nil {
		return err
	}
	f.f, f.zip, f.name, f.seen, f.size = opened, zip, name, true, 0
	f.succeed()
	fi, err := f.f.Stat()
	l.mu.Lock()
	if err == nil && !l.options.Stdout {
		l.open[f] = fi
	}
	l.mu.Unlock()
	l.state.opened(1)
	return nil
}

// claim makes the name free for a file, or finds another one, and makes its folder.
func (f *logFile) claim(name string) (string, error) {
	l := f.log.l
	for {
		fi, err := l.root.Lstat(name + l.ext)
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
		if err := l.root.MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
	}
	return name, nil
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

// complete writes the rest of the file, with #close at the time at. On error it can
// be called again.
func (f *logFile) complete(at time.Time) error {
	if !f.footer {
		f.buf = f.render.main.AppendFooter(f.buf, at.In(f.log.l.location))
		f.footer = true
	}
	return f.flush()
}

// detach lets go of the file, which is not closed, whatever is in the buffer.
func (f *logFile) detach() file {
	l := f.log.l
	detached := f.f
	f.f, f.zip, f.name, f.buf, f.queued, f.footer, f.torn = nil, nil, "", f.buf[:0], f.queued[:0], false, 0
	l.mu.Lock()
	delete(l.open, f)
	l.mu.Unlock()
	return detached
}

// closeFile makes a file durable that was detached, and closes it.
func (l *Logger) closeFile(f file, name string) {
	err := f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	l.state.opened(-1)
	if err != nil {
		// The system took the bytes and then could not keep them. There is nothing left
		// to try again.
		l.state.failed(err)
		l.log.Error("log may be incomplete on disk", "path", name, "err", err)
	}
}

// end ends the file for good: rotated if there is rotation, under its name if
// not. On error it can be called again.
func (f *logFile) end(now time.Time) error {
	if f.f == nil {
		return nil
	}
	if f.log.l.rotates() {
		return f.rotate(now)
	}
	if err := f.complete(now); err != nil {
		return err
	}
	f.log.l.closeFile(f.detach(), f.log.key.Path)
	return nil
}

// abandon gives up what is in the buffer, because of err. What a Sink's caller waits for goes back to him; the rest is lost.
func (f *logFile) abandon(err error) error {
	l := f.log.l
	_ = f.mend()
	for _, d := range f.inBuf {
		f.queued.Remove(d.from, d.n)
		l.acct.GiveBack(d.from, f.log.stats, d.n)
		d.entry.Done(err)
	}
	f.inBuf = nil
	lost := f.queued.Sum()
	l.acct.Abandon(f.log.stats, f.queued, pipeline.ReasonWrite)
	_ = f.detach().Close()
	l.state.opened(-1)
	if lost == (pipeline.Counts{}) {
		return fmt.Errorf("log %q: %w", f.log.key.Path, err)
	}
	return &LostError{f.log.key.Path, lost, err}
}

// rotate ends the file at the time at and sends it on its way to its rotated name. Without a
// file only the opening time of the next one changes. On error, which can only be
// that of the last write, it can be called again.
func (f *logFile) rotate(at time.Time) error {
	if f.f != nil {
		if err := f.complete(at); err != nil {
			return fmt.Errorf("rotation: %w", err)
		}
		l, r := f.log.l, &rotation{name: f.name, opened: f.opened, closed: at}
		r.f = f.detach()
		if l.options.Stdout {
			l.closeFile(r.f, f.log.key.Path)
		} else {
			_ = l.takeAway(f.log, r)
		}
	}
	f.opened = at
	return nil
}
