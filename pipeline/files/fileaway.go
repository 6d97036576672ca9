package files

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"syscall"
	"time"
)

// Files that somebody moves, removes, replaces or truncates while they are open, and files that are
// closed for a while to make room for others.

// follow checks that the name of the file still leads to it. If not, the file ends where it is. The
// buffer, and the batches that follow, go to a new file.
func (f *logFile) follow() error {
	l := f.log.l
	if l.options.Stdout {
		return nil
	}
	fi, err := os.Lstat(l.inLogDir(f.name + l.ext))
	switch {
	case err == nil && os.SameFile(fi, f.info):
		if fi.Size() < f.size {
			f.truncated(fi.Size())
		}
		return nil
	case err != nil && !gone(err):
		return nil // the write tells more
	}
	if err := l.followFolder(); err != nil {
		return err
	}
	what := "moved"
	if open, err := f.f.Stat(); err == nil && links(open) == 0 {
		what = "removed"
	}
	if len(f.queued) > 0 {
		return f.replace(what)
	}
	f.tell(what)
	f.opened = time.Now()
	f.closeAway(f.f, f.zip, f.size > 0 && f.torn == 0)
	f.detach()
	return nil
}

// gone reports whether an error says that there is no file of a name.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, syscall.ENOTDIR)
}

// tell logs what happened to the file.
func (f *logFile) tell(what string) {
	l := f.log.l
	l.log.Warn("a log file was "+what+" while it was open, a new one begins",
		"path", f.log.key.Path, "file", l.inLogDir(f.name+l.ext))
}

// replace makes a new file for the buffer. On error it can be called again.
func (f *logFile) replace(what string) error {
	old, zip, begun := f.f, f.zip, f.size > 0
	whole := begun && f.torn == 0 && f.zipped == 0
	state := &f.log.l.state
	state.closed() // the new file takes its place in the limit
	err := f.open(f.name)
	state.open(math.MaxInt)
	if err != nil {
		return err
	}
	f.tell(what)
	f.opened = time.Now()
	f.closeAway(old, zip, whole)
	f.torn = 0
	if begun {
		f.beginAgain()
	}
	return nil
}

// closeAway closes a file that was moved or removed. A whole one gets #close; that may fail, since
// it holds all its records.
func (f *logFile) closeAway(away file, zip *gzipStream, whole bool) {
	l := f.log.l
	if whole {
		text := f.render.main.AppendFooter(nil, time.Now().In(l.location))
		if zip != nil {
			zip.add(text, true)
			text = zip.out.Bytes()
		}
		if len(text) > 0 {
			_, _ = away.Write(text)
		}
	}
	l.closeFile(away, f.log.key.Path)
}

// truncated goes on with a file that has lost bytes. An empty one gets a header again.
func (f *logFile) truncated(size int64) {
	l := f.log.l
	l.log.Warn("a log file was truncated while it was open", "path", f.log.key.Path,
		"file", l.inLogDir(f.name+l.ext),
		"bytes", f.size, "left", size)
	f.size, f.torn = size, 0
	if size == 0 {
		f.beginAgain()
	}
}

// beginAgain puts a header in front of the buffer.
func (f *logFile) beginAgain() {
	header := f.render.main.AppendHeader(nil, time.Now().In(f.log.l.location))
	f.buf = append(header, f.buf...)
	if f.zip != nil {
		f.zip.reset()
		f.zipped = 0
	}
}

// park flushes and closes the file until the next batch, to make room for another file. It reports
// whether it has closed it.
func (f *logFile) park() bool {
	l := f.log.l
	if f.f == nil || f.footer || f.flush() != nil || f.write(true) != nil {
		return false
	}
	if f.f != nil {
		_ = f.f.Close() // rotation syncs it
		l.state.closed()
		f.f, f.zip = nil, nil
		f.count()
	}
	return true
}

// resume reopens a parked file. There is no file afterwards if somebody has taken it away.
func (f *logFile) resume() error {
	l := f.log.l
	if f.f != nil || f.name == "" {
		return nil
	}
	fi, err := l.folder().Lstat(f.name + l.ext)
	if err != nil && !gone(err) {
		return err
	}
	if err != nil || !os.SameFile(fi, f.info) || fi.Size() < f.size {
		f.tell("moved, removed or truncated")
		f.forget()
		f.opened = time.Now()
		return nil
	}
	return f.use(f.name, 0)
}

// forget separates a parked file from f.
func (f *logFile) forget() {
	l := f.log.l
	f.name = ""
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, f)
}

// openInLimit opens a file for f. If too many are open, it parks the least recently used one.
func (l *Logger) openInLimit(f *logFile, name string, flag int) (file, error) {
	for !l.state.open(l.maxFiles) {
		if !l.parkOne(f) {
			return nil, fmt.Errorf("all %d log files that may be open at a time are in use: "+
				"raise --max-open-files", l.maxFiles)
		}
	}
	opened, err := l.openFile(name, flag)
	if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && l.parkOne(f) {
		opened, err = l.openFile(name, flag)
	}
	if err != nil {
		l.state.closed()
	}
	return opened, err
}

// parkOne parks the least recently used file to make room for one of f, and reports whether it
// could. The caller holds the lock of f's log. A file is in use while another goroutine holds the
// lock of its log.
func (l *Logger) parkOne(f *logFile) bool {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	slices.SortFunc(open, func(a, b *logFile) int {
		return cmp.Compare(a.used.Load(),
			b.used.Load())
	})
	for _, g := range open {
		switch {
		case g == f:
			continue
		case g.log == f.log:
			if g.park() {
				return true
			}
			continue
		case !g.log.mu.tryLock():
			continue
		}
		parked := g.park()
		g.log.mu.unlock()
		if parked {
			return true
		}
	}
	return false
}
