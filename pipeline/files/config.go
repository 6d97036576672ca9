package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
)

// Config says where a Logger writes and how. The zero value writes Zeek's default
// format to the current folder.
type Config struct {
	// Dir is the logger's folder; Options.LogDir and Options.RotationDir are relative to
	// it. It must exist. Default ".".
	Dir string
	// Options are Zeek's own. New keeps no reference. Default DefaultOptions.
	Options *redef.Options
	// Name tells this logger from others that put their logs in the same places: it is in the
	// names of all rotated logs. Letters, digits, "-", "_" and "."; at most 64.
	// Default: none, for a cluster with one logger.
	Name string
	// MaxFileSize rotates a log when its file has got as many bytes, in addition to
	// Options.RotationInterval. Default 0: it may grow.
	MaxFileSize int64
	// Archive is the root of a tree of rotated logs as zeekctl keeps it,
	// Archive/2006-01-02/conn.15:00:00-16:00:00.log, with "-Name" at the end; on Windows with
	// dots instead of colons. Relative to Dir, made when it is first needed, may be on another file system.
	// It takes the place of Options.RotationDir and RotationFormat, which must have their
	// defaults, and logs that a crashed logger left go there too. Default: none.
	Archive string
	// Compress compresses logs on their way to Archive in the background; ".gz" or ".zst" is added to their names. Those
	// that Options.GzipLevel compressed while they were written stay as they are. Default: not compressed.
	Compress Compression
	// ArchiveMaxAge and ArchiveMaxBytes limit what Archive holds: what is older, and the oldest of what is too much, is
	// deleted; of all loggers that use it. Nothing but logs with names as above is ever deleted.
	// Default 0: no limit.
	ArchiveMaxAge   time.Duration
	ArchiveMaxBytes int64
	// PostprocessorTimeout is how long a post-processor may take; then it is killed, with all that it has started,
	// and counts as failed. Default 0: no limit.
	PostprocessorTimeout time.Duration
	// Suffix is the extension of log files, without dot. Default: the environment's
	// ZEEK_LOG_SUFFIX as in Zeek, or "log".
	Suffix string
	// FlushInterval is how long records may wait before they are in their file. Default
	// 1 s, Zeek's.
	FlushInterval time.Duration
	// Location is the time zone of #open, #close, file names and rotation. Default
	// time.Local.
	Location *time.Location
	// MaxFiles limits how many log files are open at a time. If another one is needed, the one that was not used
	// for the longest time is closed until its next batch. Default 1000.
	MaxFiles int
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

func newLogger(cfg Config) (*Logger, error) {
	l := &Logger{
		name:            cfg.Name,
		interval:        cfg.FlushInterval,
		location:        cfg.Location,
		maxFiles:        cfg.MaxFiles,
		maxFileSize:     cfg.MaxFileSize,
		postprocTimeout: cfg.PostprocessorTimeout,
		archiveMaxAge:   cfg.ArchiveMaxAge,
		archiveMaxBytes: cfg.ArchiveMaxBytes,
		log:             cfg.Logger,
		pruneNow:        make(chan struct{}, 1),
		logs:            map[pipeline.LogKey]*streamLog{},
		headers:         map[string]*logFile{},
		bases:           map[string]bool{},
		open:            map[*logFile]os.FileInfo{},
		following:       newMutex(),
		serviceSlots:    make(semaphore, maxServices),
		early:           make(semaphore, maxEarly),
		rendering:       make(semaphore, 2*runtime.GOMAXPROCS(0)),
		long:            make(semaphore, maxLong),
		rotationSlots:   make(semaphore, maxRotations),
		compressSlots:   make(semaphore, max(1, runtime.GOMAXPROCS(0)/2)),
		postprocSlots:   make(semaphore, maxPostprocessors),
		flushNow:        make(chan struct{}, 1),
		stop:            make(chan struct{}),
		timerDone:       make(chan struct{}),
		closeDone:       make(chan struct{}),
		copyTo:          func(w io.Writer) io.Writer { return w },
	}
	l.options = *redef.DefaultOptions()
	if cfg.Options != nil {
		l.options = *cfg.Options
		l.options.PostprocessorEnv = maps.Clone(l.options.PostprocessorEnv)
	}
	if err := l.options.Validate(); err != nil {
		return nil, err
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
	l.acct = pipeline.NewLedger(l.log)
	if err := l.setExtension(cfg.Suffix); err != nil {
		return nil, err
	}
	var err error
	if l.compress, err = cfg.Compress.withDefault(); err != nil {
		return nil, err
	}
	if l.dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(l.dir); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", l.dir)
	}
	l.logDir = l.resolve(l.options.LogDir)
	if cfg.Archive != "" {
		l.archive = l.resolve(cfg.Archive)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	l.reserve = l.rotatedReserve()
	if l.current, err = l.openFolder(); err != nil {
		return nil, err
	}
	l.openFile = l.openInFolder
	if l.options.Stdout {
		all := &stdout{w: os.Stdout}
		l.openFile = func(string, int) (file, error) { return all, nil }
	}
	l.giveUp, l.cancel = context.WithCancel(context.Background())
	l.giveUpRotations, l.stopRotations = context.WithCancel(context.Background())
	return l, nil
}

// setExtension decides on the extension of log files; suffix is what the operator gave.
func (l *Logger) setExtension(suffix string) error {
	if suffix == "" {
		suffix = os.Getenv("ZEEK_LOG_SUFFIX")
	}
	if suffix == "" {
		suffix = "log"
	}
	if err := redef.CheckExtension("ZEEK_LOG_SUFFIX or Config.Suffix", suffix); err != nil {
		return err
	}
	l.suffix, l.ext = suffix, "."+suffix
	if l.options.GzipLevel > 0 {
		l.ext += "." + l.options.GzipExtension
	}
	if len(l.ext) > maxExt {
		return fmt.Errorf("the extension %q has %d bytes, at most %d are allowed: set ZEEK_LOG_SUFFIX or Config.Suffix to something like \"log\"", l.ext, len(l.ext), maxExt)
	}
	return nil
}

// check refuses a configuration that makes no sense, alone or together.
func (l *Logger) check() error {
	switch {
	case l.interval < 0 || l.maxFiles < 0 || l.maxFileSize < 0 || l.archiveMaxAge < 0 || l.archiveMaxBytes < 0 || l.postprocTimeout < 0:
		return errors.New("times, numbers and sizes of a Config cannot be negative")
	case len(l.name) > maxName || strings.Trim(l.name, nameBytes) != "" || strings.Contains(l.name, "__") || strings.HasPrefix(l.name, "."):
		return fmt.Errorf("%q cannot be the name of a logger: use letters, digits, \"-\", \"_\" and \".\", at most %d, without \"__\"", l.name, maxName)
	case l.archive == "" && (l.compress != (Compression{}) || l.archiveMaxAge != 0 || l.archiveMaxBytes != 0):
		return errors.New("Config.Compress, ArchiveMaxAge and ArchiveMaxBytes need Config.Archive")
	case l.archive != "" && !l.rotates():
		return errors.New("an archive without rotation stays empty: set a rotation interval or Config.MaxFileSize")
	case l.archive != "" && (l.options.RotationDir != "" || l.options.RotationFormat != redef.RotationFormatDefault):
		return errors.New("Config.Archive contradicts Log::default_rotation_dir and Log::rotation_format_func: use one of them")
	}
	return nil
}

// What a logger's name may consist of, and how long it may be.
const (
	nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	maxName   = 64
)

// resolve returns the absolute path of a directory that the operator gave
// relative to the logger's folder.
func (l *Logger) resolve(dir string) string {
	dir = filepath.FromSlash(dir)
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return filepath.Join(l.dir, dir)
}
