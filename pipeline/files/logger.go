package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
)

// ErrClosed is returned by Write and WriteBatch once Close has been called. The
// message was not received.
var ErrClosed = errors.New("logger is closed")

// Logger writes the log batches of Zeek nodes to files, one for each log path, as
// Zeek's logger with its ASCII writer does. All methods are for concurrent use.
//
// The way of a batch:
//
//  1. Write checks the message, WriteBatch parses the batch's header. Send gets both done.
//  2. find: the header leads to the logFile, the file for these columns of this
//     stream and path; the first batch makes it.
//  3. logFile.accept renders the records and puts them in the file's buffer.
//  4. logFile.flush writes the buffer, at the latest when its log's service comes by.
//  5. rotate takes the file away, at a tick of the interval, when it is large, when other columns
//     take the name, or at the end. The rest is done in the background: see rotation.
//
// A file is written and created with the lock of its log held, so a call of the file system that hangs
// holds up its own log and who writes to that. Nothing else waits for it.
//
// Lock order: streamLog.mu, then Logger.mu, then account.mu. Nothing is waited for
// under the last two.
type Logger struct {
	// Static after New.
	options         redef.Options
	dir             string // absolute
	logDir          string // absolute path of the log folder
	name            string
	suffix, ext     string // of log files: without dot; with it and what compression adds
	reserve         int    // bytes by which rotated names are longer
	interval        time.Duration
	location        *time.Location
	maxFiles        int
	maxFileSize     int64
	archive         string      // absolute, empty if there is none
	compress        Compression // on the way to archive
	archiveMaxAge   time.Duration
	postprocTimeout time.Duration // 0 for none
	log             *slog.Logger
	openFile        func(name string, flag int) (file, error) // replaced by tests
	copyTo          func(w io.Writer) io.Writer               // replaced by tests

	archiveMaxBytes int64
	archiveSize     atomic.Int64  // as far as it is known
	pruneNow        chan struct{} // archiveSize is over the limit

	acct  *pipeline.Ledger // has its own lock
	state state            // has its own lock

	mu          sync.Mutex
	current     *folder // guarded by mu; the log folder
	folderErr   error   // guarded by mu; why there is none, nil if there is
	closed      bool
	inflight    sync.WaitGroup                 // Writes; Add under mu while not closed
	logs        map[pipeline.LogKey]*streamLog // guarded by mu
	headers     map[string]*logFile            // guarded by mu; a cache for find
	headerBytes int                            // guarded by mu; bytes of the keys of headers
	bases       map[string]bool                // guarded by mu; file names that are taken, without extension
	files       int                            // guarded by mu; number of logFiles
	lookedIdle  time.Time                      // guarded by mu; when idle logs were last looked for
	open        map[*logFile]os.FileInfo       // guarded by mu; the files that are open

	services       sync.WaitGroup // of logs, started by the timer goroutine, and retention
	serviceSlots   semaphore
	buffered       atomic.Int64   // bytes in the buffers of all files
	early          semaphore      // of batches that are rendered before their log is locked
	rendering      semaphore      // of others
	long           semaphore      // of long texts
	following      mutex          // held while it is looked whether the folder is where it was
	rotations      sync.WaitGroup // in the background
	rotationSlots  semaphore
	compressSlots  semaphore
	postprocessors sync.WaitGroup
	postprocSlots  semaphore
	postprocBehind atomic.Bool // that calls wait is logged

	flushNow        chan struct{} // somebody waits for the next flush
	stop            chan struct{} // closed to end the timer and retention goroutines
	timerDone       chan struct{} // closed by the timer goroutine
	terminating     atomic.Bool   // what is rotated now is rotated because of Close
	giveUp          context.Context
	cancel          context.CancelFunc // of giveUp: no more waiting for files
	giveUpRotations context.Context
	stopRotations   context.CancelFunc // of giveUpRotations: no more tries
	closeDone       chan struct{}      // closed when closeErr is final
	closeErr        error
}

const (
	// maxHeaderCache limits the bytes of all headers in the cache. There is one for
	// each filter and path of the cluster, times the versions of its scripts.
	maxHeaderCache = 16 << 20
	// maxLogs is how many logs there may be, so that those that nodes make up do not use up memory.
	maxLogs = 10_000
	// maxServices is how many logs are flushed by the timer at a time.
	maxServices = 64
)

// New starts a Logger. It first takes up the logs that a logger which crashed left in the folder: those that
// were being rotated, and with Options.LeftoverRotation or Config.Archive those that were
// open. It fails if another logger writes to the folder.
func New(cfg Config) (*Logger, error) {
	l, err := newLogger(cfg)
	if err != nil {
		return nil, fmt.Errorf("logger: %w", err)
	}
	l.rotateLeftovers()
	go l.runTimer()
	if l.archive != "" {
		l.services.Go(l.runRetention)
	}
	return l, nil
}

// begin reports whether a message may come in; inflight.Done must follow then.
func (l *Logger) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.inflight.Add(1)
	return true
}

// write puts a batch into its file's buffer. While the file cannot be written it
// waits, until it can or ctx or giveUp ends. It returns the account of the log as soon as
// that is known.
func (l *Logger) write(ctx context.Context, in *intake) (log *pipeline.LogAccount, _ *pipeline.DropError) {
	var backoff await.Backoff
	for {
		f, e := l.find(ctx, in.batch)
		if e != nil {
			return log, e
		}
		if log == nil {
			log = f.log.stats
			l.acct.ReceiveLog(log, in.counts())
		}
		e, err := f.accept(ctx, in)
		switch {
		case err == errEvicted:
			continue
		case err == nil:
			return log, e
		}
		if l.gone(err) {
			return log, pipeline.Drop(pipeline.ReasonWrite, "%w: %w", pipeline.ErrGone, err)
		}
		if !backoff.Sleep(ctx, l.giveUp) {
			return log, pipeline.Drop(pipeline.ReasonWrite, "gave up waiting: %w", err)
		}
	}
}

// find returns the file that a batch goes to.
func (l *Logger) find(ctx context.Context, b zeek.Batch) (*logFile, *pipeline.DropError) {
	l.mu.Lock()
	known := l.headers[string(b.Header)]
	l.mu.Unlock()
	if known != nil {
		return known, nil
	}
	schema, e := pipeline.ParseSchema(b)
	if e != nil {
		return nil, e
	}
	f, e := l.schemaFile(ctx, schema)
	if e != nil && e.Reason == pipeline.ReasonManyFiles && l.evictIdle(time.Now()) {
		f, e = l.schemaFile(ctx, schema)
	}
	if e != nil {
		return nil, e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.headerBytes += len(b.Header); l.headerBytes > maxHeaderCache {
		clear(l.headers)
		l.headerBytes = len(b.Header)
	}
	l.headers[string(b.Header)] = f
	return f, nil
}

// schemaFile returns the file for a stream, path and set of columns.
func (l *Logger) schemaFile(ctx context.Context, schema *zeek.Schema) (*logFile, *pipeline.DropError) {
	for {
		s, e := l.streamLog(schema)
		if e != nil {
			return nil, e
		}
		if f, e := s.file(ctx, schema); f != nil || e != nil {
			return f, e
		}
	}
}

// idleInterval is how often idle logs are looked for.
const idleInterval = time.Minute

// evictIdle makes room for new logs and reports whether it has looked for idle ones.
func (l *Logger) evictIdle(now time.Time) bool {
	l.mu.Lock()
	recently := now.Sub(l.lookedIdle) < idleInterval && !now.Before(l.lookedIdle)
	if !recently {
		l.lookedIdle = now
	}
	l.mu.Unlock()
	if recently {
		return false
	}
	for _, s := range l.sortedLogs() {
		s.evictIdle(now)
	}
	return true
}

// streamLog returns the log of a stream and path, a new one for the first batch.
func (l *Logger) streamLog(schema *zeek.Schema) (*streamLog, *pipeline.DropError) {
	key := pipeline.LogKey{Path: schema.Path, Stream: schema.Stream}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.logs[key]; s != nil {
		return s, nil
	}
	if err := checkPath(schema.Path, l.ext, l.reserve); err != nil {
		return nil, &pipeline.DropError{Reason: pipeline.ReasonPath, Err: err}
	}
	if l.files >= maxLogs {
		return nil, l.tooManyFiles()
	}
	base := schema.Path
	if l.bases[base] {
		base = l.claim(base + "." + safeName(schema.Stream))
		l.log.Warn("two streams have the same log path, the second gets a file of its own",
			"path", schema.Path, "stream", schema.Stream, "file", base+l.ext)
	}
	l.bases[base] = true
	s := newStreamLog(l, key, base, time.Now())
	l.logs[key] = s
	return s, nil
}

func (l *Logger) tooManyFiles() *pipeline.DropError {
	return pipeline.Drop(pipeline.ReasonManyFiles, "there are %d logs already", maxLogs)
}

// claim takes the file name base, or one with a number if that is taken. The
// caller holds mu.
func (l *Logger) claim(base string) string {
	name := base
	for i := 1; l.bases[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	l.bases[name] = true
	return name
}

// sortedLogs returns all logs, in the order of their paths.
func (l *Logger) sortedLogs() []*streamLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.logs), func(a, b *streamLog) int {
		return cmp.Or(strings.Compare(a.key.Path, b.key.Path), strings.Compare(a.key.Stream, b.key.Stream))
	})
}

// runTimer lets all logs be flushed and rotated until stop is closed. Each has a goroutine
// of its own for that, so that none waits for another's file.
func (l *Logger) runTimer() {
	defer close(l.timerDone)
	timer := time.NewTimer(0)
	defer timer.Stop()
	timer.Reset(l.untilService())
	for {
		select {
		case <-l.stop:
			return
		case <-timer.C:
		case <-l.flushNow:
		}
		if l.following.tryLock() {
			l.services.Go(func() {
				defer l.following.unlock()
				_ = l.lookAtFolder()
			})
		}
		for _, s := range l.sortedLogs() {
			if !s.serving.CompareAndSwap(false, true) {
				continue // the last time has not ended
			}
			l.services.Go(func() {
				defer s.serving.Store(false)
				l.serviceSlots.acquire()
				defer l.serviceSlots.release()
				s.service()
			})
		}
		timer.Reset(l.untilService())
	}
}

// Flush implements Flusher: what is in buffers is written soon, not only after Config.FlushInterval.
func (l *Logger) Flush() {
	select {
	case l.flushNow <- struct{}{}:
	default:
	}
}

// Reopen lets the logger look soon, and not only after Config.FlushInterval, whether its folder and files are where
// they were, as after a rotation by others. See logFile.follow.
func (l *Logger) Reopen() { l.Flush() }

// untilService returns the time until the next flush or rotation.
func (l *Logger) untilService() time.Duration {
	if l.options.RotationInterval == 0 {
		return l.interval
	}
	now := time.Now()
	return min(l.interval, l.nextRotation(now).Sub(now))
}
