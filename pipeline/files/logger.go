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
	"zmtpd/pipeline/internal/text"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// ErrClosed is the error of calls after Close: the message was not received.
var ErrClosed = errors.New("logger is closed")

// Logger writes the log batches of Zeek nodes to files, one file for each log path, as Zeek's
// logger with its ASCII writer does. It is a [pipeline.Sink]. All methods are for concurrent use.
//
// The journey of a batch:
//
//  1. Send takes a batch with a parsed header. Write and WriteBatch parse it themselves.
//  2. find returns the logFile for the stream, path and columns in the header. The first batch
//     makes it.
//  3. logFile.accept renders the records into the buffer of the logFile.
//  4. logFile.flush writes the buffer: when it is large, and when streamLog.service runs.
//  5. logFile.rotate moves the file aside: at a tick of the interval, when it is large, when
//     another file gets its name, or at the end. The rest happens in the background: see rotation.
//
// The lock of a log is held while its files are created and written. So a call of the file system
// that hangs holds up this log and its senders, and nothing else.
//
// Lock order: streamLog.mu, folder checks (following), Logger.mu, the lock of a ballot or of the
// accounts. Nobody waits with Logger.mu or one of the last held.
type Logger struct {
	// Static after New.
	options         redef.Options
	dir             string // absolute
	logDir          string // absolute path of the log folder
	name            string
	suffix, ext     string // of log files: without dot; with dot and the extension of compression
	reserve         int    // bytes that rotated names have in addition
	interval        time.Duration
	location        *time.Location
	maxFiles        int
	maxLogs         int   // replaced by tests
	maxHeaderCache  int   // replaced by tests
	maxBuffered     int64 // replaced by tests
	maxNodeLogs     int
	maxFileSize     int64
	archive         string      // absolute, empty if there is none
	compress        Compression // on the way to archive
	archiveMaxAge   time.Duration
	postprocTimeout time.Duration // 0 for none
	log             *slog.Logger
	openFile        func(name string, flag int) (file, error) // replaced by tests
	copyTo          func(w io.Writer) io.Writer               // replaced by tests

	archiveMaxBytes int64
	archiveSize     atomic.Int64  // estimate
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
	// guarded by mu; names that are taken, without extension
	bases      map[string]bool
	paths      map[string]*pathName       // guarded by mu; of all logs
	nodes      map[*pipeline.Sender]*node // guarded by mu
	files      map[*logFile]struct{}      // guarded by mu; all of them
	lookedIdle time.Time                  // guarded by mu; when idle logs were last looked for
	open       map[*logFile]os.FileInfo   // guarded by mu; open and parked files

	services       sync.WaitGroup // of logs, started by the timer goroutine, and retention
	serviceSlots   semaphore
	buffered       atomic.Int64   // bytes in the buffers of all files
	memory         *memory.Holder // of drafts and files; nil without a budget
	early          semaphore      // of batches that are rendered without the lock of their log
	rendering      *text.Quota    // of others
	longTexts      *text.Quota
	compressing    *text.Quota
	following      mutex          // held by followFolder
	rotations      sync.WaitGroup // in the background
	rotationSlots  semaphore
	postprocessors sync.WaitGroup
	postprocSlots  semaphore
	postprocBehind atomic.Bool // a long wait is logged

	flushNow        chan struct{} // a caller of Flush waits
	stop            chan struct{} // closed to end the timer and retention goroutines
	timerDone       chan struct{} // closed by the timer goroutine
	terminating     atomic.Bool   // Close has been called
	giveUp          context.Context
	cancel          context.CancelFunc // of giveUp: calls wait no longer for files
	giveUpRotations context.Context
	stopRotations   context.CancelFunc // of giveUpRotations: no more attempts
	closeDone       chan struct{}      // closed when closeErr is final
	closeErr        error
}

const (
	// maxHeaderCache limits the bytes of all headers in the cache. There is one header for each
	// filter, path and version of the scripts.
	maxHeaderCache = 16 << 20
	// maxLogs limits the logs of all nodes, and so their memory.
	maxLogs = 10_000
	// maxServices is how many logs the timer flushes at a time.
	maxServices = 64
)

// New starts a Logger. First it finishes the rotations of a logger that crashed. With
// Options.LeftoverRotation or Config.Archive it also rotates the logs that were open then. It fails
// if the folder cannot be written, or if another logger writes to it.
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

// begin starts a call that takes a message, and returns false after Close. Otherwise inflight.Done
// must follow.
func (l *Logger) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.inflight.Add(1)
	return true
}

// write puts a batch into the buffer of its file. While the file cannot be written, it waits until
// ctx or giveUp ends. It returns the account of the log if that is known.
func (l *Logger) write(ctx context.Context, in *intake) (log *pipeline.LogAccount,
	_ *pipeline.DropError) {
	var backoff await.Backoff
	for {
		f, e := l.find(ctx, in)
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

// find returns the logFile of a batch.
func (l *Logger) find(ctx context.Context, in *intake) (*logFile, *pipeline.DropError) {
	b := in.batch
	l.mu.Lock()
	known := l.headers[string(b.Header)]
	if in.node == nil {
		in.node = l.node(in.from, in.id)
	}
	l.mu.Unlock()
	in.node.active.Store(time.Now().UnixNano())
	if known != nil {
		return known, nil
	}
	schema, e := pipeline.ParseSchema(b)
	if e != nil {
		return nil, e
	}
	f, e := l.schemaFile(ctx, schema, in.node)
	if e != nil && e.Reason == pipeline.ReasonManyFiles && l.evictIdle(ctx, time.Now()) {
		f, e = l.schemaFile(ctx, schema, in.node)
	}
	if e != nil {
		return nil, e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.headerBytes += len(b.Header); l.headerBytes > l.maxHeaderCache {
		clear(l.headers)
		l.headerBytes = len(b.Header)
	}
	l.headers[string(b.Header)] = f
	return f, nil
}

// node returns what is known of a node. Nodes that share an account count as one. The caller holds
// mu.
func (l *Logger) node(from *pipeline.Sender, id []byte) *node {
	n := l.nodes[from]
	if n == nil {
		n = &node{id: string(id[:min(len(id), 256)])}
		l.nodes[from] = n
	}
	return n
}

// schemaFile returns the logFile for a stream, path and set of columns that a node sends.
func (l *Logger) schemaFile(ctx context.Context, schema *zeek.Schema, by *node) (*logFile,
	*pipeline.DropError) {
	for {
		s, e := l.streamLog(schema, by)
		if e != nil {
			return nil, e
		}
		if f, e := s.file(ctx, schema, by); f != nil || e != nil {
			return f, e
		}
	}
}

const (
	// idleInterval is how often idle logs are looked for.
	idleInterval = time.Minute
	// busyTimeout is how long that waits for logs that are in use, all together.
	busyTimeout = time.Second
)

// evictIdle makes room for new logs and reports whether there may be some: it removes logs that
// were idle for an hour, and at the limit of all logs the least recently used ones.
func (l *Logger) evictIdle(ctx context.Context, now time.Time) bool {
	l.mu.Lock()
	recently := now.Sub(l.lookedIdle) < idleInterval && !now.Before(l.lookedIdle)
	if !recently {
		l.lookedIdle = now
	}
	l.mu.Unlock()
	if !recently {
		// One that is being flushed just now is idle all the same.
		soon, cancel := context.WithTimeout(ctx, busyTimeout)
		defer cancel()
		for _, s := range l.sortedLogs() {
			s.evictIdle(soon, now)
		}
	}
	l.mu.Lock()
	full := len(l.files) >= l.maxLogs
	l.mu.Unlock()
	if full {
		l.evictLeastUsed(ctx, now)
	}
	return full || !recently
}

// evictLeastUsed removes the least recently used of a hundred logFiles. It passes over those in
// use, but waits for one of them until ctx ends if there are no others among the least recently
// used half.
func (l *Logger) evictLeastUsed(ctx context.Context, now time.Time) {
	l.mu.Lock()
	files := slices.Collect(maps.Keys(l.files))
	l.mu.Unlock()
	slices.SortFunc(files, func(f, g *logFile) int {
		return cmp.Compare(f.used.Load(), g.used.Load())
	})
	wanted := max(1, l.maxLogs/100)
	for _, f := range files[:(len(files)+1)/2] {
		if f.log.mu.tryLock() {
			if f.evictNow(now) {
				wanted--
			}
			f.log.mu.unlock()
		}
		if wanted == 0 {
			return
		}
	}
	if f := files[0]; f.log.mu.lockUntil(ctx, l.giveUp) {
		f.evictNow(now)
		f.log.mu.unlock()
	}
}

// evictNow removes f from its log, and the log if it was the last one. The caller holds the log's
// mu.
func (f *logFile) evictNow(now time.Time) bool {
	if f.evicted || !f.log.evict(f, 0, now) {
		return false
	}
	f.log.leave()
	return true
}

// streamLog returns the log of a stream and path, a new one for the first batch.
func (l *Logger) streamLog(schema *zeek.Schema, by *node) (*streamLog, *pipeline.DropError) {
	key := pipeline.LogKey{Path: schema.Path, Stream: schema.Stream}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.logs[key]; s != nil {
		return s, nil
	}
	if err := checkPath(schema.Path, l.suffix, l.ext, l.reserve); err != nil {
		return nil, &pipeline.DropError{Reason: pipeline.ReasonPath, Err: err}
	}
	if e := l.roomForFile(by); e != nil {
		return nil, e
	}
	p := l.paths[key.Path]
	if p == nil {
		p = &pathName{}
		l.paths[key.Path] = p
	}
	s := newStreamLog(l, key, key.Path, by, time.Now())
	if p.holder == nil && !l.bases[s.base] {
		p.holder = s
		l.bases[s.base] = true
	} else {
		s.base = l.claim(s.sideBase())
		l.acct.Log(key, s.base)
		l.log.Warn("two streams have the same log path, the second one gets its own file",
			"path", key.Path, "stream", key.Stream, "file", s.base+l.ext, "first_from", by.id)
	}
	p.streams++
	l.logs[key] = s
	return s, nil
}

// roomForFile returns an error if a node may not begin another log. The caller holds mu.
func (l *Logger) roomForFile(by *node) *pipeline.DropError {
	switch {
	case by.files >= l.maxNodeLogs:
		return pipeline.Drop(pipeline.ReasonManyFiles,
			"the node has begun %d logs: if it needs them all, raise --max-logs-per-node", by.files)
	case len(l.files) >= l.maxLogs:
		return pipeline.Drop(pipeline.ReasonManyFiles, "there are %d logs, and all are in use",
			len(l.files))
	}
	return nil
}

// claim reserves the file name base, or one with a number if base is taken. The caller holds mu.
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
		return cmp.Or(strings.Compare(a.key.Path, b.key.Path),
			strings.Compare(a.key.Stream, b.key.Stream))
	})
}

// runTimer flushes and rotates all logs until stop is closed, each in its own goroutine, so that
// none waits for the file of another one.
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
				continue // the last service has not ended
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

// Flush implements [pipeline.Flusher]: it makes the logger write its buffers now, without waiting
// for Config.FlushInterval. It does not block.
func (l *Logger) Flush() {
	select {
	case l.flushNow <- struct{}{}:
	default:
	}
}

// Reopen makes the logger check now that its folder and files are where they were, without waiting
// for Config.FlushInterval: call it after another program has moved them. It does not block.
func (l *Logger) Reopen() { l.Flush() }

// untilService returns the time until the next flush or rotation.
func (l *Logger) untilService() time.Duration {
	if l.options.RotationInterval == 0 {
		return l.interval
	}
	now := time.Now()
	return min(l.interval, l.nextRotation(now).Sub(now))
}
