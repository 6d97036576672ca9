package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"zmtpd/pipeline/zeek"
)

// ErrClosed is returned by Write and WriteBatch once Close has been called. The
// message was not received.
var ErrClosed = errors.New("logger is closed")

// Config says where a Logger writes and how. The zero value writes Zeek's default
// format to the current folder.
type Config struct {
	// Dir is the logger's folder; Options.LogDir and Options.RotationDir are relative to
	// it. It must exist. Default ".".
	Dir string
	// Options are Zeek's own. New keeps no reference. Default DefaultOptions.
	Options *Options
	// Suffix is the extension of log files, without dot. Default: the environment's
	// ZEEK_LOG_SUFFIX as in Zeek, or "log".
	Suffix string
	// FlushInterval is how long records may wait before they are in their file. Default
	// 1 s, Zeek's.
	FlushInterval time.Duration
	// Location is the time zone of #open, #close, file names and rotation. Default
	// time.Local.
	Location *time.Location
	// MaxFiles limits how many logs there may be at a time, so that a node which makes up
	// paths cannot use up the file descriptors: one for each path, and for each further
	// stream and set of columns in it. Batches for more are dropped. Default 1000.
	MaxFiles int
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Logger writes the log batches of Zeek nodes to files, one for each log path, as
// Zeek's logger with its ASCII writer does. All methods are for concurrent use.
//
// The way of a batch:
//
//  1. Write checks the message, WriteBatch parses the batch's header.
//  2. find: the header leads to the logFile, the file for these columns of this
//     stream and path; the first batch makes it.
//  3. logFile.accept renders the records into the file's buffer.
//  4. logFile.flush writes the buffer, at the latest when the timer goroutine
//     comes by.
//  5. rotate moves the file away, at a tick of the interval, when other columns
//     take the name, or at the end.
//
// Lock order: streamLog.mu, then Logger.mu, then account.mu. Nothing is waited for
// under the last two.
type Logger struct {
	// Static after New.
	options  Options
	dir      string // absolute
	root     *os.Root
	ext      string // with dot
	interval time.Duration
	location *time.Location
	maxFiles int
	log      *slog.Logger
	openFile func(name string) (file, error) // creates it; replaced by tests

	acct account // has its own lock

	mu          sync.Mutex
	closed      bool
	inflight    sync.WaitGroup           // Writes; Add under mu while not closed
	logs        map[logKey]*streamLog    // guarded by mu
	headers     map[string]*logFile      // guarded by mu; a cache for find
	headerBytes int                      // guarded by mu; bytes of the keys of headers
	bases       map[string]bool          // guarded by mu; file names that are taken, without extension
	files       int                      // guarded by mu; number of logFiles
	open        map[*logFile]os.FileInfo // guarded by mu; the files that are open

	stop      chan struct{} // closed to end the timer goroutine
	timerDone chan struct{} // closed by it
	giveUp    context.Context
	cancel    context.CancelFunc // of giveUp: no more waiting for files
	closeDone chan struct{}      // closed when closeErr is final
	closeErr  error
}

type logKey struct{ path, stream string }

const (
	// maxHeader limits the bytes of a batch's header, of which the logger keeps what
	// it says for each file. Zeek's widest log, conn, has about a thousand.
	maxHeader = 64 << 10
	// maxHeaderCache limits the bytes of all headers in the cache. There is one for
	// each filter and path of the cluster, times the versions of its scripts.
	maxHeaderCache = 16 << 20
)

// New starts a Logger. If Options.LeftoverRotation says so it first rotates the
// logs that a logger which crashed left in the folder.
func New(cfg Config) (*Logger, error) {
	l, err := newLogger(cfg)
	if err != nil {
		return nil, fmt.Errorf("logger: %w", err)
	}
	if l.options.LeftoverRotation {
		l.rotateLeftovers()
	}
	go l.runTimer()
	return l, nil
}

func newLogger(cfg Config) (*Logger, error) {
	l := &Logger{
		interval:  cfg.FlushInterval,
		location:  cfg.Location,
		maxFiles:  cfg.MaxFiles,
		log:       cfg.Logger,
		logs:      map[logKey]*streamLog{},
		headers:   map[string]*logFile{},
		bases:     map[string]bool{},
		open:      map[*logFile]os.FileInfo{},
		stop:      make(chan struct{}),
		timerDone: make(chan struct{}),
		closeDone: make(chan struct{}),
	}
	l.options = *DefaultOptions()
	if cfg.Options != nil {
		l.options = *cfg.Options
	}
	if err := l.options.Validate(); err != nil {
		return nil, err
	}
	if l.interval < 0 || l.maxFiles < 0 {
		return nil, errors.New("Config.FlushInterval and Config.MaxFiles cannot be negative")
	}
	if l.interval == 0 {
		l.interval = time.Second
	}
	if l.location == nil {
		l.location = time.Local
	}
	if l.maxFiles == 0 {
		l.maxFiles = 1000
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.acct.init(l.log)

	suffix := cfg.Suffix
	if suffix == "" {
		suffix = os.Getenv("ZEEK_LOG_SUFFIX")
	}
	if suffix == "" {
		suffix = "log"
	}
	l.ext = "." + suffix
	if strings.ContainsAny(suffix, "/\\\x00") || len(l.ext) > maxExt {
		return nil, fmt.Errorf("%q cannot be the extension of a file: set ZEEK_LOG_SUFFIX or Config.Suffix to something like \"log\"", suffix)
	}

	var err error
	if l.dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(l.dir); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", l.dir)
	}
	logDir := l.resolve(l.options.LogDir)
	if err := os.MkdirAll(logDir, 0o777); err != nil {
		return nil, err
	}
	if l.root, err = os.OpenRoot(logDir); err != nil {
		return nil, err
	}
	l.openFile = l.createFile
	l.giveUp, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// resolve returns the absolute path of a directory that the operator gave
// relative to the logger's folder.
func (l *Logger) resolve(dir string) string {
	dir = filepath.FromSlash(dir)
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return filepath.Join(l.dir, dir)
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

const (
	minBackoff = 50 * time.Millisecond // before a failed write is tried again
	maxBackoff = time.Second
)

// write puts a batch into its file's buffer. While the file cannot be written it
// waits, until it can or ctx or giveUp ends.
func (l *Logger) write(ctx context.Context, b zeek.Batch) *DropError {
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		f, e := l.find(b)
		if e != nil {
			return e
		}
		e, err := f.accept(b)
		switch {
		case err == errEvicted:
			continue
		case err == nil:
			return e
		}
		if !wait(ctx, l.giveUp, backoff) {
			return drop(ReasonWrite, "gave up waiting: %w", err)
		}
	}
}

// wait returns true after d, false as soon as one of the contexts ends.
func wait(a, b context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}

// find returns the file that a batch goes to.
func (l *Logger) find(b zeek.Batch) (*logFile, *DropError) {
	l.mu.Lock()
	f := l.headers[string(b.Header)]
	l.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if string(b.Writer) != writerASCII {
		return nil, drop(ReasonWriter, "filter %.60q of %.60q writes with %.60q, the logger has %s only", b.Filter, b.Stream, b.Writer, writerASCII)
	}
	if len(b.Header) > maxHeader {
		return nil, drop(ReasonHeader, "the names and types of %d columns take %d bytes, at most %d are allowed", b.NumFields, len(b.Header), maxHeader)
	}
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		return nil, dropBatch(err)
	}
	s, e := l.streamLog(schema)
	if e != nil {
		return nil, e
	}
	if f, e = s.file(schema); e != nil {
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

// writerASCII is the only writer of Zeek's that there is.
const writerASCII = "Log::WRITER_ASCII"

// streamLog returns the log of a stream and path, a new one for the first batch.
func (l *Logger) streamLog(schema *zeek.Schema) (*streamLog, *DropError) {
	key := logKey{schema.Path, schema.Stream}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.logs[key]; s != nil {
		return s, nil
	}
	if err := checkPath(schema.Path, l.ext); err != nil {
		return nil, &DropError{ReasonPath, err}
	}
	if l.files >= l.maxFiles {
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

func (l *Logger) tooManyFiles() *DropError {
	return drop(ReasonManyFiles, "there are %d logs already: raise the limit if they are all wanted", l.maxFiles)
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
		return cmp.Or(strings.Compare(a.key.path, b.key.path), strings.Compare(a.key.stream, b.key.stream))
	})
}

// runTimer flushes and rotates until stop is closed.
func (l *Logger) runTimer() {
	defer close(l.timerDone)
	timer := time.NewTimer(l.interval)
	defer timer.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-timer.C:
		}
		next := time.Now().Add(l.interval)
		for _, s := range l.sortedLogs() {
			if tick := s.service(); !tick.IsZero() && tick.Before(next) {
				next = tick
			}
		}
		timer.Reset(max(0, time.Until(next)))
	}
}

// LostError says what Close could not write to one log.
type LostError struct {
	Path string // of the log
	Lost Counts
	Err  error // why
}

// Error says it on one line.
func (e *LostError) Error() string {
	return fmt.Sprintf("log %q: %d records lost: %v", e.Path, e.Lost.Records, e.Err)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }

// Close ends the logger: Writes that have begun are finished, everything is
// written, every file gets its #close, and is rotated if there is an
// interval. It waits for files that cannot be written until ctx ends; what is
// lost then is counted as dropped and reported, a *LostError for each log,
// joined. Further calls wait for the first one's result, or for their ctx.
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
	// From here on those who wait for a file do so only as long as ctx allows.
	stopWaiting := context.AfterFunc(ctx, l.cancel)
	l.inflight.Wait()
	stopWaiting()
	l.cancel()

	var errs []error
	for _, s := range l.sortedLogs() {
		errs = append(errs, s.close(ctx)...)
	}
	errs = append(errs, l.root.Close())
	return errors.Join(errs...)
}
