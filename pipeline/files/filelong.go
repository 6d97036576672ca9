package files

import (
	"context"
	"errors"
	"syscall"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/zeek"
)

// The text of a batch may be many times as large as the batch. So that memory is bounded, only
// texts of one piece go through the buffers of files, and of those only maxBuffered bytes. All
// others are written piece by piece while they are rendered, see acceptLong.

const (
	// maxBuffered is how many bytes of text may wait in the buffers of all files.
	maxBuffered = 32 << 20
	// maxEarly is how many batches that are rendered may wait for the lock of their log.
	maxEarly = 16
	// maxLong is how many long texts are written at a time.
	maxLong = 16
)

// errLong says that a text has more than one piece.
var errLong = errors.New("the text has more than one piece")

func refuseLong(text []byte) ([]byte, error) { return text[:0], errLong }

// renderEarly renders a batch before its log is locked, if it may be. It reports whether it has:
// then l.early is to be released.
func (f *logFile) renderEarly(dst []byte, b zeek.Batch) (text []byte, early bool, err error) {
	if f.render.ordered || !f.log.l.early.tryAcquire() {
		return dst, false, nil
	}
	text, err = f.render.appendRecords(dst, b)
	return text, true, err
}

// renderLocked renders a batch with its log locked.
func (f *logFile) renderLocked(dst []byte, b zeek.Batch) ([]byte, error) {
	l := f.log.l
	l.rendering.acquire() // until it is rendered, it waits for nothing
	defer l.rendering.release()
	text, _, err := f.render.main.RenderRecords(dst, b, refuseLong)
	return text, err
}

// acceptLong writes a batch to the file piece by piece. When a write fails it takes back what was
// written: the batch is in the file as a whole or not at all, and may be tried again. The batch has
// no fault.
func (f *logFile) acceptLong(ctx context.Context, in *intake) error {
	l := f.log.l
	select {
	case l.long <- struct{}{}:
	default:
		select {
		case l.long <- struct{}{}:
		case <-ctx.Done():
			return errBusy
		case <-l.giveUp.Done():
			return errBusy
		}
	}
	defer l.long.release()
	// What is compressed ends here, so that what follows can be taken back without it.
	if err := f.write(true); err != nil {
		return err
	}
	if err := f.mend(); err != nil {
		return f.fail(err)
	}
	start := f.size
	text := getScratch()
	defer putScratch(text)
	write := func(piece []byte) ([]byte, error) { return piece[:0], f.writePiece(ctx, piece) }
	rest, _, err := f.render.main.RenderRecords(*text, in.batch, write)
	if err == nil && len(rest) > 0 {
		if _, err = write(rest); err != nil {
			f.render.main.Rollback()
		}
	}
	*text = rest
	if err != nil {
		f.torn, f.size = f.torn+int(f.size-start), start
		if f.zip != nil {
			f.zip.reset()
			f.zip.closed = true
		}
		if l.options.Stdout {
			f.torn = 0 // nothing can be taken back
		}
		_ = f.mend() // else before the next try
		return f.fail(err)
	}
	f.succeed()
	l.acct.Wrote(f.log.stats, pipeline.Shares{{From: in.from, N: in.counts()}}, int(f.size-start))
	if in.entry != nil {
		in.entry.Done(nil)
	}
	return nil
}

// writePiece writes a piece of a long text. If the output is no file, and so nothing can be taken
// back, it tries again until ctx ends.
func (f *logFile) writePiece(ctx context.Context, piece []byte) error {
	l := f.log.l
	data := piece
	if f.zip != nil {
		f.zip.add(piece, false)
		data = f.zip.out.Bytes()
	}
	var backoff await.Backoff
	for {
		n, err := f.f.Write(data)
		f.size += int64(n)
		if err == nil {
			break
		}
		if !l.options.Stdout || l.gone(err) {
			return err
		}
		_ = f.fail(err)
		if !backoff.Sleep(ctx, l.giveUp) {
			return err
		}
	}
	if f.zip != nil {
		f.zip.written()
	}
	return nil
}

// gone reports whether a write that failed with err can never succeed: the reader of the standard
// output has ended.
func (l *Logger) gone(err error) bool { return l.options.Stdout && errors.Is(err, syscall.EPIPE) }

// count notes how much is in the buffer.
func (f *logFile) count() {
	f.log.l.buffered.Add(int64(len(f.buf) - f.counted))
	f.counted = len(f.buf)
}

// tooMuchBuffered reports whether texts are not to wait in buffers.
func (l *Logger) tooMuchBuffered() bool { return l.buffered.Load() > maxBuffered }
