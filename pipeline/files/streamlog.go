package files

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/zeek"
)

// streamLog is what one stream writes to one log path. It has a file for each set
// of columns that occurs, because a file has only one header. That is one file
// but for a cluster whose nodes have different scripts:
//
//   - the file takes the log's own name, "conn.log", if no other of this log has it;
//   - columns that are new take it over: scripts have changed, and what follows
//     has the new columns. The file before is closed and moved away as at a
//     rotation;
//   - columns that come back while others have the name, because nodes with old and
//     new scripts run side by side, go to a file beside it, "conn.5bd8ff41.log", marked
//     with a checksum of the columns.
//
// So a change of scripts costs two or three files, in whatever order the batches
// of the nodes come.
type streamLog struct {
	l   *Logger
	key pipeline.LogKey

	stats *pipeline.LogAccount
	last  chan struct{} // closed when the last rotated file has its name, nil if there is none; guarded by mu

	serving atomic.Bool // service runs

	mu       mutex // held while its files are written and created
	gone     bool  // guarded by mu; not to be used any more
	made     time.Time
	base     string     // guarded by mu; name of the log's file, without extension
	files    []*logFile // guarded by mu; at most maxColumns
	nextTick time.Time  // guarded by mu; when to rotate next, zero if never
}

const (
	// maxColumns is how many sets of columns a log has at a time. A node that
	// invents them batch by batch must not make a file of each.
	maxColumns = 8
	// columnsIdle is how long a set of columns must not have occurred before another
	// one may take its place.
	columnsIdle = time.Hour
)

func newStreamLog(l *Logger, key pipeline.LogKey, base string, now time.Time) *streamLog {
	s := &streamLog{l: l, key: key, base: base, stats: l.acct.Log(key, base), mu: newMutex(), made: now}
	if l.options.RotationInterval > 0 && l.rotates() {
		s.nextTick = l.nextRotation(now)
	}
	return s
}

// file returns the file for the columns of schema, a new one if they are new, nil if
// the log has gone. It may wait for the lock until ctx ends.
func (s *streamLog) file(ctx context.Context, schema *zeek.Schema) (*logFile, *pipeline.DropError) {
	if !s.mu.lockUntil(ctx, s.l.giveUp) {
		return nil, pipeline.Drop(pipeline.ReasonWrite, "gave up waiting: %w", errBusy)
	}
	defer s.mu.unlock()
	if s.gone {
		return nil, nil
	}
	for _, f := range s.files {
		if f.render.schema.SameColumns(schema) {
			return f, nil
		}
	}
	now := time.Now()
	if len(s.files) == maxColumns && !s.evictOldest(now) {
		return nil, pipeline.Drop(pipeline.ReasonManySchemas, "%d sets of columns for one log in the last %v, the nodes' scripts must agree on them", maxColumns, columnsIdle)
	}
	if s.l.options.Stdout {
		shown := *schema
		shown.Path = stdoutPath
		schema = &shown
	}
	render, err := newRenderers(schema, s.l.options.Format)
	if err != nil {
		return nil, pipeline.DropBatch(err)
	}
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files >= maxLogs {
		return nil, l.tooManyFiles()
	}
	l.files++
	f := &logFile{log: s, render: render, opened: now}
	f.used.Store(now.UnixNano())
	s.files = append(s.files, f)
	return f, nil
}

// errEvicted says that the logFile has gone; look for it again.
var errEvicted = errors.New("file is gone")

// evictOldest makes room for another set of columns and reports whether it could. The
// caller holds mu.
func (s *streamLog) evictOldest(now time.Time) bool {
	oldest := s.files[0]
	for _, f := range s.files {
		if f.used.Load() < oldest.used.Load() {
			oldest = f
		}
	}
	return s.evict(oldest, now)
}

// evict takes f out of the log if it has been idle for long, and reports whether it has. The
// caller holds mu.
func (s *streamLog) evict(f *logFile, now time.Time) bool {
	if now.Sub(time.Unix(0, f.used.Load())) < columnsIdle || f.rotate(now) != nil {
		return false
	}
	f.evicted = true
	s.files = slices.DeleteFunc(s.files, func(g *logFile) bool { return g == f })
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files--
	delete(l.bases, f.side)
	for header, g := range l.headers {
		if g == f {
			delete(l.headers, header)
		}
	}
	return true
}

// evictIdle takes all files out of the log that have been idle for long, and the log
// itself if none is left. A log that is busy is not idle.
func (s *streamLog) evictIdle(now time.Time) {
	if !s.mu.tryLock() {
		return
	}
	defer s.mu.unlock()
	for _, f := range slices.Clone(s.files) {
		s.evict(f, now)
	}
	if len(s.files) > 0 || now.Sub(s.made) < columnsIdle {
		return
	}
	s.gone = true
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.logs, s.key)
	delete(l.bases, s.base)
}

// name decides on the name of a file that is about to be created, without
// extension. The caller holds mu.
func (s *streamLog) name(f *logFile, now time.Time) (string, error) {
	if s.l.options.Stdout {
		return s.base, nil
	}
	var holder *logFile
	for _, g := range s.files {
		if g != f && g.name == s.base {
			holder = g
		}
	}
	if holder == nil {
		return s.base, nil
	}
	if !f.seen {
		s.l.log.Info("the columns of a log have changed, a new file begins", "path", s.key.Path, "stream", s.key.Stream)
		return s.base, holder.rotate(now)
	}
	if f.side == "" {
		s.l.mu.Lock()
		f.side = s.l.claim(s.base + "." + columnsMark(f.render.schema))
		s.l.mu.Unlock()
		s.l.log.Warn("nodes disagree on the columns of a log, it is written to two files",
			"path", s.key.Path, "stream", s.key.Stream, "file", f.side+s.l.ext)
	}
	return f.side, nil
}

// rename gives f another name than name, which turned out not to be free. The
// caller holds mu.
func (s *streamLog) rename(f *logFile, name string) string {
	l := s.l
	l.mu.Lock()
	other := l.claim(name)
	l.mu.Unlock()
	l.log.Warn("log gets another name, the file system takes its own for that of another log",
		"path", s.key.Path, "stream", s.key.Stream, "file", other+l.ext)
	if name != s.base {
		f.side = other
		return other
	}
	s.base = other
	l.acct.Log(s.key, other)
	return other
}

// service flushes and rotates what is due. What fails stays in the buffer and is
// tried again.
func (s *streamLog) service() {
	s.mu.lock()
	defer s.mu.unlock()
	if s.rotateIfDue(time.Now()) != nil {
		return
	}
	for _, f := range s.files {
		_ = f.flush()
	}
}

// close ends all files. It tries again what fails until ctx ends, and waits for the lock until
// hung ends.
func (s *streamLog) close(ctx, hung context.Context) error {
	if !s.mu.lockUntil(hung, hung) {
		return fmt.Errorf("log %q: %w", s.key.Path, errBusy)
	}
	defer s.mu.unlock()
	var errs []error
	for _, f := range s.files {
		var backoff await.Backoff
		for {
			err := f.end(time.Now())
			if err == nil {
				break
			}
			if !backoff.Sleep(ctx, ctx) {
				errs = append(errs, f.abandon(err))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// rotateIfDue rotates all files when their tick has come. It is also called
// before a batch is taken: no record that came after a tick is in a file that
// ends with it, however late the timer is. The caller holds mu.
func (s *streamLog) rotateIfDue(now time.Time) error {
	interval := s.l.options.RotationInterval
	if s.nextTick.IsZero() {
		return nil
	}
	if s.nextTick.Sub(now) > interval { // the clock was set back
		s.nextTick = s.l.nextRotation(now)
	}
	if now.Before(s.nextTick) {
		return nil
	}
	for _, f := range s.files {
		if err := f.rotate(s.nextTick); err != nil {
			return err
		}
	}
	next := s.l.nextRotation(now)
	if last := next.Add(-interval); last.After(s.nextTick) {
		for _, f := range s.files {
			f.opened = last // ticks were missed, the computer slept
		}
	}
	s.nextTick = next
	return nil
}
