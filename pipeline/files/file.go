package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/text"
)

// file is the part of an *os.File, opened for appending, that a logFile uses.
type file interface {
	Write([]byte) (int, error)
	Truncate(size int64) error
	// Reserve makes sure that the disk has room for n more bytes. It returns nil if it cannot tell.
	Reserve(n int64) error
	Stat() (os.FileInfo, error)
	Sync() error
	Close() error
}

const flushSize = 64 << 10 // bytes in the buffer that are written at once, before the timer

// logFile writes the records of one log that have the same columns. It has at most one file at a
// time; after a rotation the next batch creates another one. Its log's mu guards it: callers of its
// methods hold mu.
type logFile struct {
	log    *streamLog
	render *renderers // for all its files: escaping may depend on earlier records

	f       file         // nil while there is no file, or the file is parked
	name    string       // of the file, without extension; empty without a file
	info    os.FileInfo  // of the file
	side    string       // its name while other columns have the log's own; empty until needed
	opened  time.Time    // the time of opening in the name of the rotated file
	used    atomic.Int64 // when the last batch came, in ns since 1970
	evicted bool         // out of use

	owner     *node     // the first one that sent these columns
	ballot    ballot    // the nodes that send these columns; has its own lock
	nextClaim time.Time // when reclaim looks next

	buf     []byte          // text that is not in f yet; empty without f
	zip     *gzipStream     // between buf and f, nil without compression
	zipped  int             // bytes of buf that zip has got
	counted int             // bytes of buf that Logger.buffered has
	charged int64           // bytes of memory that Logger.memory has
	queued  pipeline.Shares // the batches in buf, by sender
	inBuf   []delivery      // the batches in buf whose Entry is not done
	footer  bool            // buf ends with #close: the file must end before anything else
	size    int64           // bytes in the file
	torn    int             // bytes at the end of f of a write that failed halfway
	err     error           // why it cannot be written now, nil if it can
}

// accept renders a batch into the buffer, or a long one into the file. A DropError means that the
// batch can never be written, an error that the file cannot be written now.
//
// If possible it renders before it takes the lock, so that all cores can render for one log. When
// the batch comes again, after an error, it is rendered only once the file can be written.
func (f *logFile) accept(ctx context.Context, in *intake) (*pipeline.DropError, error) {
	l := f.log.l
	if err := f.hopeless(ctx); err != nil {
		return nil, err
	}
	t := draft{l: l, buf: text.Get()}
	defer t.end()
	if !in.sound {
		if err := f.renderEarly(&t, in.batch); err != nil {
			return pipeline.DropBatch(err), nil
		}
		in.sound = t.early
	}
	if !f.log.mu.lockUntil(ctx, l.giveUp) {
		return nil, errBusy
	}
	defer f.log.mu.unlock()
	if f.evicted {
		return nil, errEvicted
	}
	now := time.Now()
	f.ballot.cast(in.node, now)
	f.log.ballot.cast(in.node, now)
	if err := f.makeReady(now); err != nil {
		return nil, err
	}
	if t.early && l.buffered.Load() > l.maxBuffered {
		t.drop()
	}
	if in.sound && !t.early {
		if e, err := f.prepare(in, now); e != nil || err != nil {
			return e, err
		}
	}
	if !t.early {
		fault, err := f.renderLocked(ctx, &t, in.batch)
		if fault != nil {
			return pipeline.DropBatch(fault), nil
		}
		if err != nil {
			return nil, err
		}
		in.sound = true
	}
	if !t.kept && f.f != nil {
		if err := f.follow(); err != nil {
			return nil, f.fail(err)
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
	var err error
	if t.kept {
		f.buffer(in, t.buf)
	} else {
		err = f.acceptLong(ctx, in)
	}
	if most := l.maxFileSize; err == nil && most > 0 && f.size+int64(len(f.buf)) >= most {
		_ = f.rotate(now) // again before the next batch if it fails
	}
	return nil, err
}

// buffer puts a batch, whose text this is, into the buffer, and flushes that if there is enough in
// it.
func (f *logFile) buffer(in *intake, t *[]byte) {
	if len(f.buf) == 0 && text.Fits(*t) {
		f.buf, *t = *t, f.buf
	} else {
		f.buf = append(f.buf, *t...)
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

// prepare makes sure, before a batch is rendered once more, that there is a file and that the disk
// has room for what could not be written the last time.
func (f *logFile) prepare(in *intake, now time.Time) (*pipeline.DropError, error) {
	if f.f == nil {
		if e, err := f.create(now); e != nil || err != nil {
			return e, err
		}
	}
	if in.failedAt == 0 {
		return nil, nil
	}
	if err := f.mend(); err != nil {
		return nil, f.fail(err)
	}
	if err := f.f.Reserve(in.failedAt); err != nil {
		return nil, f.fail(err)
	}
	return nil, nil
}

// hopeless returns an error if the file cannot be written and ctx has ended: then rendering the
// batch would be in vain.
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

// errBusy says that a call of the file system does not return and holds the lock of a log.
var errBusy = errors.New("the file system does not answer")

// makeReady does what must come before the next batch: rotation, changes of the name, and another
// attempt at a write that failed.
func (f *logFile) makeReady(now time.Time) error {
	if err := f.log.rotateIfDue(now); err != nil {
		return err
	}
	if f.footer {
		if err := f.rotate(now); err != nil {
			return err
		}
	}
	if err := f.log.settle(now); err != nil {
		return err
	}
	if err := f.reclaim(now); err != nil {
		return err
	}
	if f.err != nil && f.f != nil {
		return f.flush()
	}
	return nil
}

// fail notes that the file cannot be written, and logs the first failure.
func (f *logFile) fail(err error) error {
	l := f.log.l
	l.state.failed(err)
	if f.err == nil {
		l.log.Error("a log cannot be written, its senders wait", "path", f.log.key.Path, "err", err)
	}
	f.err = err
	return err
}

// succeed notes that the file can be written, and logs the end of a failure.
func (f *logFile) succeed() {
	if f.err != nil {
		f.log.l.log.Info("a log can be written again", "path", f.log.key.Path)
		f.err = nil
	}
}

// flush writes the buffer to the file, or to a new one if the file is not where it was. On error
// the buffer is kept for another attempt, and the file is unchanged or torn says by how many bytes
// it is too long. There may be no file afterwards.
func (f *logFile) flush() error {
	if f.f == nil {
		return nil
	}
	if err := f.follow(); err != nil {
		return f.fail(err)
	}
	return f.write(f.footer)
}

// write writes the buffer to the file. With last the compressed stream ends. Errors are as in
// flush.
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
		_ = f.mend() // else before the next attempt
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
	f.buf = f.buf[:0]
	f.count()
	f.recycle()
	return nil
}

// mend cuts off the bytes of a write that failed halfway, so that no reader takes half a line for a
// record. That needs no space on the disk.
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

// complete writes the rest of the file, with #close at the time at. On error it can be called
// again. There may be no file afterwards.
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

// detach separates the file from f and empties the buffer. The caller closes the file.
func (f *logFile) detach() file {
	l := f.log.l
	detached := f.f
	f.f, f.zip, f.name, f.footer, f.torn = nil, nil, "", false, 0
	f.buf, f.zipped, f.queued = f.buf[:0], 0, f.queued[:0]
	f.recycle()
	l.mu.Lock()
	delete(l.open, f)
	l.mu.Unlock()
	return detached
}

// closeFile syncs and closes a detached file.
func (l *Logger) closeFile(f file, name string) {
	err := f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	l.state.closed()
	if err != nil {
		// The system had accepted the bytes. They cannot be written again.
		l.state.failed(err)
		l.log.Error("a log may be incomplete on disk", "path", name, "err", err)
	}
}

// end ends the file for good: rotated if there is rotation, else under its name. On error it can be
// called again.
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

// abandon gives up the buffer because of err. Entries go back to their outlet; other batches are
// lost.
func (f *logFile) abandon(err error) error {
	l := f.log.l
	if f.f == nil { // parked: all records are in the file
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

// giveBack gives the entries in the buffer back to their outlet because of err. Their text stays in
// the buffer.
func (f *logFile) giveBack(err error) {
	for _, d := range f.inBuf {
		f.queued.Remove(d.from, d.n)
		f.log.l.acct.GiveBack(d.from, f.log.stats, d.n)
		d.entry.Done(err)
	}
	f.inBuf = nil
}

// rotate ends the file at the time at and starts its way to its rotated name. Without a file it
// sets only the opening time of the next one. On error, which is that of the last write, it can be
// called again.
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
