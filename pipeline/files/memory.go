package files

import (
	"context"
	"runtime"

	"zmtpd/pipeline/internal/text"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// Text, buffers and compression count in the memory budget of the process. A text goes through the
// buffer of its file if the budget has memory for it. Otherwise, or if it has more than one piece,
// it is written piece by piece while it is rendered (acceptLong). Nobody waits for memory while it
// holds some that others need for going on: of the quotas of Logger, rendering is held while a
// piece is rendered, longTexts while files are written, and compressing while a file is copied.

const (
	// gzipBytes is what a stream of gzip takes, in bytes.
	gzipBytes = 5 << 18
	// longBytes is what it takes to write a long text: a piece, and its compressed form.
	longBytes = 2 * text.PieceBytes
	// maxEarly is how many batches that are rendered may wait for the lock of their log.
	maxEarly = 16
	// maxLong is how many long texts are written at a time.
	maxLong = 16
	// least is how many texts are rendered or written at a time without memory in the budget.
	least = 4
)

// openMemory makes what counts in a budget, which may be nil.
func (l *Logger) openMemory(budget *memory.Budget) {
	const kind = "files"
	cores := int64(runtime.GOMAXPROCS(0))
	l.memory = budget.NewHolder(kind, 0, nil)
	l.rendering = text.NewQuota(budget, kind, 2*cores*text.PieceBytes, least*text.PieceBytes)
	l.longTexts = text.NewQuota(budget, kind, maxLong*longBytes, least*longBytes)
	one := l.compress.memory()
	l.compressing = text.NewQuota(budget, kind, max(1, cores/2)*one, one)
}

// closeMemory ends what openMemory made.
func (l *Logger) closeMemory() {
	l.memory.Close()
	l.rendering.Close()
	l.longTexts.Close()
	l.compressing.Close()
}

// draft is the text of a batch on its way to the buffer of its file.
type draft struct {
	l       *Logger
	buf     *[]byte
	early   bool  // it was rendered without the lock of its log, and has a slot of Logger.early
	kept    bool  // buf has the text
	charged int64 // bytes in Logger.memory
}

// renderEarly renders a batch before its log is locked, if it may be. The error is that of a faulty
// batch.
func (f *logFile) renderEarly(t *draft, b zeek.Batch) error {
	l := f.log.l
	if f.render.ordered || !l.early.tryAcquire() {
		return nil
	}
	if !l.memory.TryReserve(text.PieceBytes) {
		l.early.release()
		return nil
	}
	t.early, t.charged = true, text.PieceBytes
	var err error
	*t.buf, err = f.render.appendRecords(*t.buf, b)
	switch {
	case err == errLong:
		t.drop()
	case err != nil:
		return err
	default:
		l.memory.Release(t.charged - int64(cap(*t.buf)))
		t.kept, t.charged = true, int64(cap(*t.buf))
	}
	return nil
}

// renderLocked renders a batch with its log locked. fault is the error of a faulty batch.
func (f *logFile) renderLocked(ctx context.Context, t *draft, b zeek.Batch) (fault, err error) {
	l := f.log.l
	if !l.rendering.Acquire(ctx, l.giveUp, text.PieceBytes) {
		return nil, errBusy
	}
	defer l.rendering.Release(text.PieceBytes)
	f.render.renderings.Add(1)
	*t.buf, _, err = f.render.main.RenderRecords(*t.buf, b, refuseLong)
	if err != nil && err != errLong {
		return err, nil
	}
	n := int64(cap(*t.buf))
	if err == nil && l.buffered.Load() <= l.maxBuffered && l.memory.TryReserve(n) {
		t.kept, t.charged = true, n
	} else {
		f.render.main.Rollback()
		t.drop()
	}
	return nil, nil
}

// drop gives the text up.
func (t *draft) drop() {
	text.Put(t.buf)
	t.buf = new([]byte)
	t.l.memory.Release(t.charged)
	t.kept, t.charged = false, 0
}

// end gives back what the draft holds. What is in the buffer of a file counts there.
func (t *draft) end() {
	t.drop()
	if t.early {
		t.l.early.release()
	}
}

// count notes how much is in the buffer, and what memory the file takes.
func (f *logFile) count() {
	l := f.log.l
	l.buffered.Add(int64(len(f.buf) - f.counted))
	f.counted = len(f.buf)
	memory := int64(cap(f.buf))
	if f.zip != nil {
		memory += gzipBytes + int64(f.zip.out.Cap())
	}
	l.memory.Add(memory - f.charged)
	f.charged = memory
}

// recycle gives the empty buffer to the next text of any log: most logs are idle most of the time.
func (f *logFile) recycle() {
	buf := f.buf
	f.buf = nil
	f.count()
	text.Put(&buf)
}

// compress begins a stream of gzip for the file. If the budget has no memory for it, the least
// recently used file is parked, which frees as much.
func (f *logFile) compress() error {
	l := f.log.l
	reserved := l.memory.TryReserve(gzipBytes)
	if reserved {
		defer l.memory.Release(gzipBytes)
	} else {
		l.parkOne(f)
	}
	zip, err := newGzipStream(l.options.GzipLevel)
	if err != nil {
		return err
	}
	f.zip, f.zipped = zip, 0
	f.count()
	return nil
}
