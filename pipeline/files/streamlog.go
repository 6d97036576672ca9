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

// streamLog is the log of one stream and path. A file has one header, so the log has a file for
// each set of columns: usually one, and more while nodes have different scripts.
//
//   - A file gets the log's own name, such as "conn.log", if no other file of the log has it.
//   - Columns that more nodes send than those of the file with that name take the name over: the
//     scripts have changed. The file before is closed and moved away as at a rotation.
//   - Other columns go to a second file, "conn.5bd8ff41.log", marked with a checksum of the
//     columns.
//
// A node that has ended has no vote (see ballot). So a change of scripts costs two to four files,
// in whatever order the batches come, and a single node with other columns does not get the name.
type streamLog struct {
	l   *Logger
	key pipeline.LogKey

	stats *pipeline.LogAccount
	last  chan struct{} // guarded by mu; closed when the last rotated file has its name

	serving atomic.Bool // service runs
	native  bool        // key.Path is Zeek's default for the stream
	first   string      // id of the first node that sent it
	ballot  ballot      // the nodes that send it; has its own lock

	mu       mutex // held while its files are written and created
	gone     bool  // guarded by mu; out of use
	made     time.Time
	base     string     // guarded by mu; name of the log's file, without extension
	files    []*logFile // guarded by mu; at most maxColumns for each node
	nextTick time.Time  // guarded by mu; the next rotation, zero for none

	nextSettle time.Time // guarded by mu; when settle looks next
}

const (
	// maxColumns limits the sets of columns that one node may bring to a log, so that a node which
	// makes them up does not fill the folder with files.
	maxColumns = 8
	// columnsIdle is how long a set of columns must have been idle to make room for another one.
	columnsIdle = time.Hour
)

func newStreamLog(l *Logger, key pipeline.LogKey, base string, by *node, now time.Time) *streamLog {
	s := &streamLog{l: l, key: key, base: base, stats: l.acct.Log(key, base), mu: newMutex(),
		made: now, first: by.id,
		native: isNative(key.Stream, key.Path)}
	if l.options.RotationInterval > 0 && l.rotates() {
		s.nextTick = l.nextRotation(now)
	}
	return s
}

// file returns the logFile for the columns of schema, which it makes for new columns, and nil if
// the log is out of use. It waits for the lock until ctx ends.
func (s *streamLog) file(ctx context.Context, schema *zeek.Schema, by *node) (*logFile,
	*pipeline.DropError) {
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
	if !s.roomForColumns(by, now) {
		return nil, pipeline.Drop(pipeline.ReasonManySchemas,
			"the node has sent %d other sets of columns for this log in the last %v: "+
				"its scripts must agree on the columns", maxColumns, columnsIdle)
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
	if e := l.roomForFile(by); e != nil {
		return nil, e
	}
	by.files++
	f := &logFile{log: s, render: render, opened: now, owner: by}
	f.used.Store(now.UnixNano())
	s.files = append(s.files, f)
	l.files[f] = struct{}{}
	return f, nil
}

// errEvicted says that the logFile is out of use: find it again.
var errEvicted = errors.New("file is gone")

// roomForColumns reports whether a node may bring another set of columns to the log. If need be it
// evicts an idle one of the same node. The caller holds mu.
func (s *streamLog) roomForColumns(by *node, now time.Time) bool {
	var oldest *logFile
	n := 0
	for _, f := range s.files {
		if f.owner != by {
			continue
		}
		n++
		if oldest == nil || f.used.Load() < oldest.used.Load() {
			oldest = f
		}
	}
	return n < maxColumns || s.evict(oldest, columnsIdle, now)
}

// evict removes f from the log if it was idle for that time, and reports whether it has. The caller
// holds mu.
func (s *streamLog) evict(f *logFile, idle time.Duration, now time.Time) bool {
	if now.Sub(time.Unix(0, f.used.Load())) < idle || f.rotate(now) != nil {
		return false
	}
	f.evicted = true
	s.files = slices.DeleteFunc(s.files, func(g *logFile) bool { return g == f })
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.files, f)
	f.owner.files--
	delete(l.bases, f.side)
	for header, g := range l.headers {
		if g == f {
			delete(l.headers, header)
		}
	}
	return true
}

// evictIdle removes all idle files from the log, and the log itself if none is left. It waits for
// the lock until ctx ends.
func (s *streamLog) evictIdle(ctx context.Context, now time.Time) {
	if !s.mu.lockUntil(ctx, s.l.giveUp) {
		return
	}
	defer s.mu.unlock()
	for _, f := range slices.Clone(s.files) {
		s.evict(f, columnsIdle, now)
	}
	if now.Sub(s.made) >= columnsIdle {
		s.leave()
	}
}

// leave removes the log from the logger if it has no files. The caller holds mu.
func (s *streamLog) leave() {
	if len(s.files) > 0 {
		return
	}
	s.gone = true
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.logs, s.key)
	delete(l.bases, s.base)
	p := l.paths[s.key.Path]
	if p.holder == s {
		p.holder = nil
	}
	if p.next == s {
		p.next = nil
	}
	if p.streams--; p.streams == 0 {
		delete(l.paths, s.key.Path)
	}
}

// name returns the name for a new file of f, without extension. The caller holds mu.
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
	switch {
	case holder == nil && s.leads(f, true, now):
		return s.base, nil
	case holder != nil && f.ballot.count(now) > holder.ballot.count(now):
		s.l.log.Info("most nodes send a log with other columns now, a new file begins",
			"path", s.key.Path, "stream", s.key.Stream)
		return s.base, holder.rotate(now)
	}
	if f.side == "" {
		s.l.mu.Lock()
		f.side = s.l.claim(s.base + "." + columnsMark(f.render.schema))
		s.l.mu.Unlock()
		s.l.log.Warn("nodes disagree on the columns of a log: the columns of fewer nodes go to "+
			"another file",
			"path", s.key.Path, "stream", s.key.Stream, "file", f.side+s.l.ext,
			"first_from", f.owner.id)
	}
	return f.side, nil
}

// rename returns another name for a file of f: the file system takes name for that of another log.
// The caller holds mu.
func (s *streamLog) rename(f *logFile, name string) string {
	l := s.l
	l.mu.Lock()
	other := l.claim(name)
	l.mu.Unlock()
	l.log.Warn("a log gets another name: the file system takes its own for that of another log",
		"path", s.key.Path, "stream", s.key.Stream, "file", other+l.ext)
	if name != s.base {
		f.side = other
		return other
	}
	s.base = other
	l.acct.Log(s.key, other)
	return other
}

// service flushes all files and rotates them if it is time. After an error the next service tries
// again.
func (s *streamLog) service() {
	s.mu.lock()
	defer s.mu.unlock()
	now := time.Now()
	if s.rotateIfDue(now) != nil || s.settle(now) != nil {
		return
	}
	for _, f := range s.files {
		_ = f.flush()
	}
}

// close ends all files. It repeats failed attempts until ctx ends, and waits for the lock until
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

// rotateIfDue rotates all files at a tick of the interval. It runs before every batch as well:
// however late the timer is, no record that came after a tick is in the file that ended at the
// tick. The caller holds mu.
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
			f.opened = last // ticks were missed: the computer slept
		}
	}
	s.nextTick = next
	return nil
}
