package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
	"zmtpd/pipeline/kafka"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/stdout"
)

// sinkFlags say where the records go.
type sinkFlags struct {
	Sink       []string        `group:"sinks" enum:"files,stdout,kafka" default:"files" placeholder:"files|stdout|kafka" help:"Where the records go (repeatable): log files, lines on standard output, Kafka. Each gets all of them."`
	SinkQueue  daemon.ByteSize `group:"sinks" default:"32MiB" help:"Bytes of log batches in memory that one sink has not dealt with. Then they go to --spool, or the nodes wait."`
	Spool      string          `group:"sinks" placeholder:"DIR" help:"Folder for what a sink that is slow or down cannot take; it gets that, in order, when it is back, also after a crash of zmtpd. Made if it does not exist. Default: the nodes wait."`
	SpoolBytes daemon.ByteSize `group:"sinks" default:"1GiB" help:"Most that --spool holds of one sink."`
	SpoolFull  string          `group:"sinks" enum:"block,drop-oldest" default:"block" placeholder:"block|drop-oldest" help:"When it holds that: the nodes wait, or the oldest makes room and is counted."`
	SpoolFirst bool            `group:"sinks" help:"Put every log batch into --spool before it counts as received: kill -9 loses none that was counted. Default: only what a sink cannot take at once goes there, and kill -9 loses what is in memory."`
	SpoolSync  time.Duration   `group:"sinks" default:"1s" help:"How long what is in --spool may wait to be synced to the disk, which is what a power failure loses; 0 to sync each batch before it counts as received."`
	kafkaFlags
}

// names of sinks.
const (
	sinkFiles  = "files"
	sinkStdout = "stdout"
	sinkKafka  = "kafka"
)

// sinks are where a logger's records go.
type sinks struct {
	options *redef.Options
	outlets []*pipeline.Outlet
	files   *files.Logger // nil if files are none of them
	kafka   *kafka.Sink   // likewise
}

// openSinks opens the sinks.
func (f *loggerFlags) openSinks(env *daemon.Env) (*sinks, error) {
	options, err := f.options(env.Log)
	if err != nil {
		return nil, err
	}
	if len(f.Sink) == 0 {
		return nil, daemon.Usagef("--sink: none, give at least one as in --sink files")
	}
	switch {
	case f.Spool == "" && f.SpoolFull != "block":
		return nil, daemon.Usagef("--spool-full %s: needs --spool", f.SpoolFull)
	case f.Spool == "" && f.SpoolFirst:
		return nil, daemon.Usagef("--spool-first: needs --spool")
	case f.SpoolSync < 0:
		return nil, daemon.Usagef("--spool-sync %v: has to be 0 or more", f.SpoolSync)
	}
	s := &sinks{options: options}
	for i, name := range f.Sink {
		if slices.Contains(f.Sink[:i], name) {
			err = daemon.Usagef("--sink %s: is there twice", name)
		} else {
			err = s.add(name, f, env)
		}
		if err != nil {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			return nil, errors.Join(err, s.close(ended))
		}
	}
	return s, nil
}

// add opens one sink.
func (s *sinks) add(name string, f *loggerFlags, env *daemon.Env) error {
	var sink pipeline.Sink
	options, log := s.options, env.Log
	switch name {
	case sinkFiles:
		l, err := f.openFiles(options, env)
		if err != nil {
			return err
		}
		sink, s.files = l, l
	case sinkKafka:
		k, err := f.openKafka(options, env)
		if err != nil {
			return err
		}
		sink, s.kafka = k, k
	case sinkStdout:
		lines, err := f.openStdout(options, env)
		if err != nil {
			return err
		}
		sink = lines
	}
	config := pipeline.OutletConfig{
		Name: name, MaxBytes: int64(f.SinkQueue), SpoolFirst: f.SpoolFirst,
		DropOldest: f.SpoolFull == "drop-oldest",
		Memory:     env.Memory, Logger: log,
		Gone: func(err error) { env.Fail(fmt.Errorf("--sink %s: %w", name, err)) },
	}
	if f.Spool != "" {
		config.Spool = &spool.Config{Dir: filepath.Join(f.Spool, name),
			MaxBytes:     int64(f.SpoolBytes),
			SyncInterval: f.SpoolSync, SyncEach: f.SpoolSync == 0}
	}
	o, err := pipeline.NewOutlet(sink, config)
	if err != nil {
		return errors.Join(err, sink.Close(context.Background()))
	}
	s.outlets = append(s.outlets, o)
	return nil
}

// openFiles opens the log files.
func (f *loggerFlags) openFiles(options *redef.Options, env *daemon.Env) (*files.Logger, error) {
	if info, err := os.Stat(f.Dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--dir %s: is no folder; make it, or name another", f.Dir)
	}
	if f.MaxOpenFiles < 1 {
		return nil, daemon.Usagef("--max-open-files %d: has to be at least 1", f.MaxOpenFiles)
	}
	if f.MaxLogsPerNode < 1 {
		return nil, daemon.Usagef("--max-logs-per-node %d: has to be at least 1", f.MaxLogsPerNode)
	}
	return files.New(files.Config{
		Dir: f.Dir, Options: options, FlushInterval: time.Duration(f.FlushInterval),
		Memory: env.Memory, Logger: env.Log,
		Name: f.Name, MaxFileSize: int64(f.MaxFileSize), Archive: f.Archive,
		Compress:      f.ArchiveCompress,
		ArchiveMaxAge: f.ArchiveMaxAge, ArchiveMaxBytes: int64(f.ArchiveMaxBytes),
		PostprocessorTimeout: f.PostprocessorTimeout, MaxFiles: f.MaxOpenFiles,
		MaxNodeLogs: f.MaxLogsPerNode,
	})
}

// openStdout opens standard output: for JSON, unless --format asks for something else.
func (f *loggerFlags) openStdout(options *redef.Options, env *daemon.Env) (*stdout.Sink, error) {
	format := options.Format
	format.UseJSON = f.Format != "tsv"
	s, err := stdout.New(stdout.Config{Writer: env.Stdio.Out, Format: &format, Memory: env.Memory,
		Logger: env.Log})
	if err != nil {
		return nil, &daemon.UsageError{Err: fmt.Errorf("--sink stdout: %w", err)}
	}
	return s, nil
}

// close ends all sinks at the same time, and waits until they have what they were given, until ctx
// ends.
func (s *sinks) close(ctx context.Context) error {
	errs := make([]error, len(s.outlets))
	var ending sync.WaitGroup
	for i, o := range s.outlets {
		ending.Go(func() { errs[i] = o.Close(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}
