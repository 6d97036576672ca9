package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
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

	f       file         // nil while there is none, or it is parked
	name    string       // of the file, without extension; empty while there is none
	info    os.FileInfo  // of the file
	side    string       // the name to take while other columns have the log's own; empty until needed
	opened  time.Time    // the opening time for the name of the rotated file
	used    atomic.Int64 // when the last batch came, in ns since 1970
	seen    bool         // it had a file before
	evicted bool         // not to be used any more

	buf     []byte          // text that is not in f yet; empty while there is no f
	zip     *gzipStream     // between buf and f, nil without compression
	zipped  int             // bytes of buf that zip has
	counted int             // bytes of buf that Logger.buffered has
	queued  pipeline.Shares // the batches in buf
	inBuf   []delivery      // those of them that a Sink's caller waits for
	footer  bool            // #close was appended: the file must be ended before anything else
	size    int64           // bytes in the file
	torn    int             // bytes at the end of f from a write that failed halfway
	err     error           // why it cannot be written now, nil if it can
}

// accept renders a batch of one sender into the buffer, or, if its text is long, into the file. A
// DropError means that the batch never can be written; an error that the file cannot be written now.
//
// If possible it renders before it takes the lock, so that all cores can render for one log.
func (f *logFile) accept(ctx context.Context, in *intake) (*pipeline.DropError, error) {
	l, b := f.log.l, in.batch
	if err := f.hopeless(ctx); err != nil {
		return nil, err
	}
	text := getScratch()
	defer func() { putScratch(text) }()
	var early bool
	var err error
	if *text, early, err = f.renderEarly(*text, b); early {
		defer l.early.release()
	}
	if err != nil && err != errLong {
		return pipeline.DropBatch(err), nil
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
	if !early {
		if *text, err = f.renderLocked(*text, b); err != nil && err != errLong {
			return pipeline.DropBatch(err), nil
		}
	}
	long := err == errLong || l.tooMuchBuffered()
	if long {
		f.render.main.Rollback()
		if f.f != nil {
			if err := f.follow(); err != nil {
				return nil, f.fail(err)
			}
		}
	}
	if f.f == nil {
		if e, err := f.create(now); e != nil || err != nil {
			f.render.main.Rollback()
			return e, err
		}
	}
	f.used.Store(now.UnixNano())
	defer f.count()
	if long {
		putScratch(text)
		text = new([]byte)
		err = f.acceptLong(ctx, in)
	} else {
		f.buffer(in, text)
	}
	if most := l.maxFileSize; err == nil && most > 0 && f.size+int64(len(f.buf)) >= most {
		_ = f.rotate(now) // again before the next batch if it fails
	}
	return nil, err
}

// buffer puts a batch, whose text this is, into the buffer, and flushes that if there is enough in it.
func (f *logFile) buffer(in *intake, text *[]byte) {
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
	f.count()
	if len(f.buf) >= flushSize {
		// If it fails the batch stays in the buffer, and the next one waits.
		_ = f.flush()
	}
}

// hopeless returns why a batch need not be rendered: nobody waits for the file any more, and it cannot be written.
func (f *logFile) hopeless(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	if !f.log.mu.tryLock() {
		return errBusy
	}
	defer f.log.mu.unlock()
	return f.err
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

// flush writes the buffer to the file, or to a new one if the file is not where it was. On error the file is as it
// was before, or torn says by how much it is too long, and the buffer is kept for another try. Afterwards there may
// be no file.
func (f *logFile) flush() error {
	if f.f == nil {
		return nil
	}
	if err := f.follow(); err != nil {
		return f.fail(err)
	}
	return f.write(f.footer)
}

// write is flush for a file that is where it was. last says that the compressed stream ends with it.
func (f *logFile) write(last bool) error {
	if f.f == nil || len(f.buf) == 0 && len(f.queued) == 0 && !f.zip.pending(last) {
		return nil
	}
	if err := f.mend(); err != nil {
		return f.fail(err)
	}
	data := f.buf
	if f.zip != nil {
		f.zip.add(f.buf[f.zipped:], last)
		f.zipped = len(f.buf)
		data = f.zip.out.Bytes()
	}
	n, err := 0, error(nil)
	if len(data) > 0 {
		n, err = f.f.Write(data)
	}
	if err != nil {
		f.torn = n
		_ = f.mend() // else before the next try
		if f.log.l.gone(err) {
			f.giveBack(fmt.Errorf("%w: %w", pipeline.ErrGone, err))
		}
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
	f.zipped = 0
	if f.buf = f.buf[:0]; cap(f.buf) > flushSize {
		buf := f.buf
		f.buf = nil
		putScratch(&buf) // where the next text of any log is rendered
	}
	f.count()
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

// complete writes the rest of the file, with #close at the time at. On error it can
// be called again. Afterwards there may be no file.
func (f *logFile) complete(at time.Time) error {
	if err := f.resume(); err != nil {
		return f.fail(err)
	}
	if f.f == nil {
		return nil
	}
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
	f.f, f.zip, f.name, f.footer, f.torn = nil, nil, "", false, 0
	f.buf, f.zipped, f.queued = f.buf[:0], 0, f.queued[:0]
	f.count()
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
	l.state.closed()
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
	if f.log.l.rotates() {
		return f.rotate(now)
	}
	if err := f.complete(now); err != nil || f.f == nil {
		return err
	}
	f.log.l.closeFile(f.detach(), f.log.key.Path)
	return nil
}

// abandon gives up what is in the buffer, because of err. What a Sink's caller waits for goes back to him; the rest is lost.
func (f *logFile) abandon(err error) error {
	l := f.log.l
	if f.f == nil { // it is parked, with all that was for it
		f.forget()
		return fmt.Errorf("log %q has no #close: %w", f.log.key.Path, err)
	}
	_ = f.mend()
	f.giveBack(err)
	lost := f.queued.Sum()
	l.acct.Abandon(f.log.stats, f.queued, pipeline.ReasonWrite)
	_ = f.detach().Close()
	l.state.closed()
	if lost == (pipeline.Counts{}) {
		return fmt.Errorf("log %q: %w", f.log.key.Path, err)
	}
	return &LostError{f.log.key.Path, lost, err}
}

// giveBack gives what the callers of a Sink wait for back to them, because of err. Its text stays in the
// buffer.
func (f *logFile) giveBack(err error) {
	for _, d := range f.inBuf {
		f.queued.Remove(d.from, d.n)
		f.log.l.acct.GiveBack(d.from, f.log.stats, d.n)
		d.entry.Done(err)
	}
	f.inBuf = nil
}

// rotate ends the file at the time at and sends it on its way to its rotated name. Without a
// file only the opening time of the next one changes. On error, which can only be
// that of the last write, it can be called again.
func (f *logFile) rotate(at time.Time) error {
	if err := f.complete(at); err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	if f.f != nil {
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
