package files

import (
	"context"
	"errors"
	"syscall"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/internal/text"
)

// The text of a batch may be many times as large as the batch. So that memory is bounded, only
// texts of one piece go through the buffers of files, and of those only maxBuffered bytes. All
// others are written piece by piece while they are rendered, see acceptLong.

// maxBuffered is how many bytes of text may wait in the buffers of all files.
const maxBuffered = 32 << 20

// errLong says that a text has more than one piece.
var errLong = errors.New("the text has more than one piece")

func refuseLong(text []byte) ([]byte, error) { return text[:0], errLong }

// acceptLong writes a batch to the file piece by piece. When a write fails it takes back what was
// written: the batch is in the file as a whole or not at all, and may be tried again. The batch has
// no fault.
func (f *logFile) acceptLong(ctx context.Context, in *intake) error {
	l := f.log.l
	if !l.longTexts.Acquire(ctx, l.giveUp, longBytes) {
		return errBusy
	}
	defer l.longTexts.Release(longBytes)
	// What is compressed ends here, so that what follows can be taken back without it.
	if err := f.write(true); err != nil {
		return err
	}
	if err := f.mend(); err != nil {
		return f.fail(err)
	}
	start := f.size
	buf := text.Get()
	defer text.Put(buf)
	in.failedAt = 0
	write := func(piece []byte) ([]byte, error) { return piece[:0], f.writePiece(ctx, in, piece) }
	f.render.renderings.Add(1)
	rest, _, err := f.render.main.RenderRecords(*buf, in.batch, write)
	if err == nil && len(rest) > 0 {
		if _, err = write(rest); err != nil {
			f.render.main.Rollback()
		}
	}
	*buf = rest
	if err != nil {
		in.failedAt = max(0, in.failedAt-start)
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
func (f *logFile) writePiece(ctx context.Context, in *intake, piece []byte) error {
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
			in.failedAt = f.size + int64(len(data)-n)
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
