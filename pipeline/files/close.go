package files

import (
	"context"
	"errors"
	"fmt"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
)

// LostError tells what Close could not write to one log.
type LostError struct {
	Path string // of the log
	Lost pipeline.Counts
	Err  error // why
}

// Error returns it as one line.
func (e *LostError) Error() string {
	return fmt.Sprintf("log %q: %d records lost: %v", e.Path, e.Lost.Records, e.Err)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }

// Close ends the logger: it finishes the calls of Write and Send that have begun, writes all
// buffers, ends every file with #close, and rotates the files if there is rotation. It waits for
// files that cannot be written until ctx ends. Records that are lost then are counted as dropped
// and returned as a *LostError for each log, joined. Further calls wait for the result of the first
// one, or until their ctx ends.
func (l *Logger) Close(ctx context.Context) error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		l.closeErr = l.close(ctx)
		close(l.closeDone)
		return l.closeErr
	}
	select {
	case <-l.closeDone:
		return l.closeErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Logger) close(ctx context.Context) error {
	close(l.stop)
	<-l.timerDone
	l.terminating.Store(true)
	// From here on calls wait for a file only as long as ctx allows.
	stopWaiting := context.AfterFunc(ctx, l.cancel)
	// A call that lasts longer than this hangs in the file system. Nobody waits for it.
	hung, cancel := await.WithGrace(ctx)
	defer cancel()
	var errs []error
	if !await.Until(hung, await.Done(l.inflight.Wait)) {
		errs = append(errs, fmt.Errorf("a batch is being written: %w", errBusy))
	}
	stopWaiting()
	l.cancel()

	logs := l.sortedLogs()
	ended := make([]error, len(logs))
	closed := make([]<-chan struct{}, len(logs))
	for i, s := range logs {
		closed[i] = await.Done(func() { ended[i] = s.close(ctx, hung) })
	}
	for i, s := range logs {
		if await.Until(hung, closed[i]) {
			errs = append(errs, ended[i])
		} else {
			errs = append(errs, fmt.Errorf("log %q: %w", s.key.Path, errBusy))
		}
	}
	errs = append(errs, l.waitRotations(ctx, hung))
	if !await.Until(hung, await.Done(l.services.Wait)) {
		errs = append(errs, errBusy)
	}
	errs = append(errs, l.folder().close())
	l.closeMemory()
	return errors.Join(errs...)
}

// waitRotations waits for the work in the background. After ctx has ended it leaves the rest for
// the next start: logs without their final name, and post-processors, which may run on by
// themselves.
func (l *Logger) waitRotations(ctx, hung context.Context) error {
	stop := context.AfterFunc(ctx, l.stopRotations)
	defer stop()
	var errs []error
	if !await.Until(hung, await.Done(l.rotations.Wait)) {
		errs = append(errs, fmt.Errorf("%d rotated logs: %w; they are in %s for the next start",
			l.Stats().Rotation.Pending, errBusy, l.inLogDir(workDir)))
	}
	ended := await.Until(hung, await.Done(l.postprocessors.Wait))
	logs, calls := l.leftInWork()
	if len(errs) == 0 && logs > 0 {
		errs = append(errs,
			fmt.Errorf("%d rotated logs have no final name yet; they are in %s for the next start",
				logs, l.inLogDir(workDir)))
	}
	if !ended {
		errs = append(errs,
			fmt.Errorf("%d post-processors have not ended; the next start calls them again",
				l.Stats().Rotation.PostprocessRunning))
	} else if calls > 0 {
		errs = append(errs,
			fmt.Errorf("%d post-processors were not called or were interrupted; "+
				"the next start calls them", calls))
	}
	return errors.Join(errs...)
}
