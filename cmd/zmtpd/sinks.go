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
	"zmtpd/pipeline/logtap"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/stdout"
)

// sinkFlags are the flags about the destinations of the records.
type sinkFlags struct {
	Sink       []string        `group:"sinks" enum:"files,stdout,kafka" default:"files" help:"Destination of the records: files, stdout (as lines) or kafka (repeatable). Each sink gets all records."`
	SinkQueue  daemon.ByteSize `group:"sinks" default:"32MiB" help:"Bytes of log batches that wait in memory for one sink. Further batches go to --spool; without it, the nodes wait."`
	Spool      string          `group:"sinks" placeholder:"DIR" help:"Folder for batches that a sink cannot take because it is slow or down. The sink gets them in order when it is back, even after a crash of zmtpd. zmtpd makes the folder. Default: the nodes wait."`
	SpoolBytes daemon.ByteSize `group:"sinks" default:"1GiB" help:"Size of the spool of one sink."`
	SpoolFull  string          `group:"sinks" enum:"block,drop-oldest" default:"block" help:"Effect of a full spool. block: the nodes wait; drop-oldest: the oldest batches make room and are counted."`
	SpoolFirst bool            `group:"sinks" help:"Append every batch to --spool before it counts as received, so that kill -9 loses none. Default: only batches that a sink cannot take at once go there, and kill -9 loses those in memory."`
	SpoolSync  daemon.Duration `group:"sinks" default:"1s" help:"Time between two syncs of the spool to the disk; a power failure loses what came after the last one. 0: sync each batch before it counts as received."`
	kafkaFlags
}

// Names of sinks.
const (
	sinkFiles  = "files"
	sinkStdout = "stdout"
	sinkKafka  = "kafka"
)

// sinks are the destinations of a logger's records.
type sinks struct {
	options *redef.Options
	outlets []*pipeline.Outlet
	files   *files.Logger // nil without --sink files
	kafka   *kafka.Sink   // nil without --sink kafka
	publish *logtap.Sink  // nil without --publish-logs
}

// openSinks opens the sinks of --sink and --publish-logs. Records of the latter go to p.
func (f *loggerFlags) openSinks(env *daemon.Env, p logPublisher) (*sinks, error) {
	options, err := f.options(env.Log)
	if err != nil {
		return nil, err
	}
	if len(f.Sink) == 0 {
		return nil, daemon.Usagef("--sink: no sink; give at least one, as in --sink files")
	}
	switch {
	case f.Spool == "" && f.SpoolFull != "block":
		return nil, daemon.Usagef("--spool-full %s without --spool: there is no spool; give its "+
			"folder too", f.SpoolFull)
	case f.Spool == "" && f.SpoolFirst:
		return nil, daemon.Usagef("--spool-first without --spool: there is no spool; give its " +
			"folder too")
	case len(f.KafkaBroker) > 0 && !slices.Contains(f.Sink, sinkKafka):
		return nil, daemon.Usagef("--kafka-broker without --sink kafka: nothing would go to " +
			"Kafka; give --sink kafka too")
	case f.SinkQueue == 0:
		return nil, daemon.Usagef("--sink-queue 0: a sink needs a queue; give 1 or more")
	case f.SpoolBytes == 0:
		return nil, daemon.Usagef("--spool-bytes 0: the spool needs room; give 1 or more")
	}
	s := &sinks{options: options}
	failed := func(err error) (*sinks, error) {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		return nil, errors.Join(err, s.close(ended))
	}
	for i, name := range f.Sink {
		if slices.Contains(f.Sink[:i], name) {
			err = daemon.Usagef("--sink %s: given twice", name)
		} else {
			err = s.add(name, f, env)
		}
		if err != nil {
			return failed(err)
		}
	}
	if err := s.addPublish(f, p, env); err != nil {
		return failed(err)
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
			SyncInterval: time.Duration(f.SpoolSync), SyncEach: f.SpoolSync == 0}
	}
	o, err := pipeline.NewOutlet(sink, config)
	if err != nil {
		return errors.Join(fmt.Errorf("--spool %s: %w", f.Spool, err),
			sink.Close(context.Background()))
	}
	s.outlets = append(s.outlets, o)
	return nil
}

// openFiles opens the log files.
func (f *loggerFlags) openFiles(options *redef.Options, env *daemon.Env) (*files.Logger, error) {
	if info, err := os.Stat(f.Dir); err != nil {
		return nil, fmt.Errorf("--dir: %w; make the folder, or name another", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("--dir %s: not a folder", f.Dir)
	}
	if f.MaxOpenFiles < 1 {
		return nil, daemon.Usagef("--max-open-files %d: give 1 or more", f.MaxOpenFiles)
	}
	if f.MaxLogsPerNode < 1 {
		return nil, daemon.Usagef("--max-logs-per-node %d: give 1 or more", f.MaxLogsPerNode)
	}
	l, err := files.New(files.Config{
		Dir: f.Dir, Options: options, FlushInterval: time.Duration(f.FlushInterval),
		Memory: env.Memory, Logger: env.Log,
		Name: f.Name, MaxFileSize: int64(f.MaxFileSize), Archive: f.Archive,
		Compress: f.ArchiveCompress, ArchiveMaxAge: time.Duration(f.ArchiveMaxAge),
		ArchiveMaxBytes:      int64(f.ArchiveMaxBytes),
		PostprocessorTimeout: time.Duration(f.PostprocessorTimeout), MaxFiles: f.MaxOpenFiles,
		MaxNodeLogs: f.MaxLogsPerNode,
	})
	if err != nil {
		return nil, nameFlag(sinkFiles, err, map[string]string{
			"Dir": "--dir", "Name": "--name", "Archive": "--archive",
			"Compress": "--archive-compress", "ArchiveMaxAge": "--archive-max-age",
			"ArchiveMaxBytes": "--archive-max-bytes",
		})
	}
	return l, nil
}

// nameFlag names the flag of the field in an error about the configuration of a sink. flags has the
// flags by field.
func nameFlag(sink string, err error, flags map[string]string) error {
	if e, ok := errors.AsType[*pipeline.ConfigError](err); ok && flags[e.Field] != "" {
		return &daemon.UsageError{Err: fmt.Errorf("%s: %w", flags[e.Field], e.Err)}
	}
	return fmt.Errorf("--sink %s: %w", sink, err)
}

// openStdout opens standard output, for JSON unless --format is tsv.
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

// close ends all sinks concurrently. It waits until they have delivered everything, or until ctx
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
