package files

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/memory"
)

// Config is the configuration of a Logger. The zero value writes Zeek's default format to the
// current folder.
type Config struct {
	// Dir is the logger's folder, which must exist. Options.LogDir and Options.RotationDir are
	// relative to it. Default ".".
	Dir string
	// Options are Zeek's options. New copies them. Default redef.DefaultOptions.
	Options *redef.Options
	// Name is part of the names of all rotated logs. Several loggers that rotate into one folder
	// need different names. Letters, digits, "-", "_" and ".", at most 64. Default: none.
	Name string
	// MaxFileSize is the number of bytes at which a file is rotated, in addition to
	// Options.RotationInterval. Default 0: no limit.
	MaxFileSize int64
	// Archive is the root of a tree of rotated logs like that of zeekctl:
	// Archive/2006-01-02/conn.15:00:00-16:00:00-Name.log, on Windows with dots instead of colons.
	// It is relative to Dir, is made when it is first needed, and may be on another file system. It
	// replaces Options.RotationDir and RotationFormat, which must have their defaults. The logs of
	// a crashed logger go there, too. Default: none.
	Archive string
	// Compress compresses logs on their way to Archive and adds ".gz" or ".zst" to their names.
	// Logs that Options.GzipLevel compressed stay as they are. Default: no compression.
	Compress Compression
	// ArchiveMaxAge and ArchiveMaxBytes limit Archive. Older logs, and the oldest ones of too many
	// bytes, are deleted, those of other loggers included. Only files with names as above are
	// deleted. Default 0: no limit.
	ArchiveMaxAge   time.Duration
	ArchiveMaxBytes int64
	// PostprocessorTimeout is how long a post-processor may take. After that it is killed with its
	// children, and counts as failed. Default 0: no limit.
	PostprocessorTimeout time.Duration
	// Suffix is the extension of log files, without dot. Default: the environment variable
	// ZEEK_LOG_SUFFIX, as in Zeek, or "log".
	Suffix string
	// FlushInterval is how long records may wait until they are written. Default 1 s, as in Zeek.
	FlushInterval time.Duration
	// Location is the time zone of #open, #close, file names and rotation. Default time.Local.
	Location *time.Location
	// MaxFiles limits the log files that are open at a time. For another one the least recently
	// used file is closed until its next batch. Default 1000.
	MaxFiles int
	// MaxNodeLogs limits the logs that one node may begin: one for each path, and for each further
	// stream and set of columns in it. A log that was idle for an hour makes room for another one;
	// otherwise batches for more logs are dropped. Default 1000.
	MaxNodeLogs int
	// Memory is the budget in which text, buffers and compression count. Default: none.
	Memory *memory.Budget
	// Logger gets messages for the operator. Default: none are logged.
	Logger *slog.Logger
}

func newLogger(cfg Config) (*Logger, error) {
	l := &Logger{
		name:            cfg.Name,
		interval:        cfg.FlushInterval,
		location:        cfg.Location,
		maxFiles:        cfg.MaxFiles,
		maxLogs:         maxLogs,
		maxHeaderCache:  maxHeaderCache,
		maxBuffered:     maxBuffered,
		maxNodeLogs:     cfg.MaxNodeLogs,
		maxFileSize:     cfg.MaxFileSize,
		postprocTimeout: cfg.PostprocessorTimeout,
		archiveMaxAge:   cfg.ArchiveMaxAge,
		archiveMaxBytes: cfg.ArchiveMaxBytes,
		log:             cfg.Logger,
		pruneNow:        make(chan struct{}, 1),
		logs:            map[pipeline.LogKey]*streamLog{},
		headers:         map[string]*logFile{},
		files:           map[*logFile]struct{}{},
		bases:           map[string]bool{},
		paths:           map[string]*pathName{},
		nodes:           map[*pipeline.Sender]*node{},
		open:            map[*logFile]os.FileInfo{},
		following:       newMutex(),
		serviceSlots:    make(semaphore, maxServices),
		early:           make(semaphore, maxEarly),
		rotationSlots:   make(semaphore, maxRotations),
		postprocSlots:   make(semaphore, maxPostprocessors),
		flushNow:        make(chan struct{}, 1),
		stop:            make(chan struct{}),
		timerDone:       make(chan struct{}),
		closeDone:       make(chan struct{}),
		copyTo:          func(w io.Writer) io.Writer { return w },
	}
	if err := l.setDefaults(cfg.Options); err != nil {
		return nil, err
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
		return nil, &pipeline.ConfigError{Field: "Dir", Err: err}
	} else if !fi.IsDir() {
		return nil, configErrorf("Dir", "%s is not a folder", l.dir)
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
		if l.options.LogDir != "" {
			return nil, fmt.Errorf("the folder in Log::default_logdir: %w", err)
		}
		return nil, &pipeline.ConfigError{Field: "Dir", Err: err}
	}
	l.openFile = l.openInFolder
	if l.options.Stdout {
		all := &stdout{w: os.Stdout}
		l.openFile = func(string, int) (file, error) { return all, nil }
	}
	l.openMemory(cfg.Memory)
	l.giveUp, l.cancel = context.WithCancel(context.Background())
	l.giveUpRotations, l.stopRotations = context.WithCancel(context.Background())
	return l, nil
}

// setDefaults sets the options, and what Config leaves out.
func (l *Logger) setDefaults(options *redef.Options) error {
	l.options = *redef.DefaultOptions()
	if options != nil {
		l.options = *options
		l.options.PostprocessorEnv = maps.Clone(l.options.PostprocessorEnv)
	}
	if err := l.options.Validate(); err != nil {
		return err
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
	if l.maxNodeLogs == 0 {
		l.maxNodeLogs = 1000
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// setExtension sets the extension of log files. An empty suffix stands for the default.
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
		return fmt.Errorf("the extension %q has %d bytes, at most %d are allowed: "+
			"set ZEEK_LOG_SUFFIX to something like \"log\"", l.ext, len(l.ext), maxExt)
	}
	return nil
}

// configErrorf makes an error in a field of Config.
func configErrorf(field, format string, args ...any) error {
	return &pipeline.ConfigError{Field: field, Err: fmt.Errorf(format, args...)}
}

// check returns an error if a value makes no sense, alone or with others.
func (l *Logger) check() error {
	for field, negative := range map[string]bool{
		"FlushInterval": l.interval < 0, "MaxFiles": l.maxFiles < 0,
		"MaxNodeLogs": l.maxNodeLogs < 0, "MaxFileSize": l.maxFileSize < 0,
		"ArchiveMaxAge": l.archiveMaxAge < 0, "ArchiveMaxBytes": l.archiveMaxBytes < 0,
		"PostprocessorTimeout": l.postprocTimeout < 0,
	} {
		if negative {
			return configErrorf(field, "the value is negative")
		}
	}
	for field, set := range map[string]bool{
		"Compress": l.compress != (Compression{}), "ArchiveMaxAge": l.archiveMaxAge != 0,
		"ArchiveMaxBytes": l.archiveMaxBytes != 0,
	} {
		if set && l.archive == "" {
			return configErrorf(field, "there is no archive: set its folder too")
		}
	}
	switch {
	case len(l.name) > maxName || strings.Trim(l.name, nameBytes) != "" ||
		strings.Contains(l.name, "__") || strings.HasPrefix(l.name, "."):
		return configErrorf("Name", `%q cannot be the name of a logger: use letters, digits, "-", `+
			`"_" and ".", at most %d, without "__"`, l.name, maxName)
	case l.archive != "" && !l.rotates():
		return configErrorf("Archive", "no log would get there: set a rotation interval or size")
	case l.archive != "" && (l.options.RotationDir != "" ||
		l.options.RotationFormat != redef.RotationFormatDefault):
		return configErrorf("Archive", "the archive contradicts Log::default_rotation_dir and "+
			"Log::rotation_format_func: remove one of them")
	}
	return nil
}

// The bytes and the length that the name of a logger may have.
const (
	nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	maxName   = 64
)

// resolve returns the absolute path of a folder that is relative to the logger's folder.
func (l *Logger) resolve(dir string) string {
	dir = filepath.FromSlash(dir)
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return filepath.Join(l.dir, dir)
}
