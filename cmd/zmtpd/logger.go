package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve/access"
	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp"
)

// loggerFlags are the flags of the logger.
type loggerFlags struct {
	Listen        []string         `default:"tcp://127.0.0.1:5557" help:"Endpoint at which nodes deliver their logs: one of Zeek's connect_log_endpoints (repeatable)."`
	Dir           string           `default:"." help:"Folder of the log files. It has to exist."`
	Format        string           `enum:"tsv,json," default:"" placeholder:"tsv|json" help:"Format of the log files. Default: that of the redefs, else tsv."`
	Rotate        *daemon.Duration `placeholder:"INTERVAL" help:"Time between two rotations of the log files, as in 1h; 0: no rotation by time. Default: that of the redefs, else 0."`
	Redef         []string         `sep:"none" placeholder:"NAME=VALUE" help:"Option of Zeek's logging, as in LogAscii::json_timestamps=JSON::TS_ISO8601 (repeatable)."`
	Redefs        []string         `placeholder:"FILE" help:"Zeek script, such as local.zeek, whose redefs of Zeek's logging apply (repeatable). --redef and other flags win over it."`
	FlushInterval daemon.Positive  `default:"1s" help:"Longest time that records wait in the buffer of their log file before they are written."`
	sinkFlags
	publishFlags
	archiveFlags
	clusterFlags
	RcvHWM        daemon.HighWaterMark `name:"rcvhwm" group:"limits" default:"1000" reload:"" help:"Messages of one node that may wait for the sinks; 0: no limit. At the limit, the node waits."`
	RcvBytes      daemon.ByteSize      `name:"rcvbytes" group:"limits" default:"64MiB" reload:"" help:"Bytes of one node that may wait for the sinks; 0: no limit."`
	TotalRcvBytes daemon.ByteSize      `name:"total-rcvbytes" group:"limits" default:"64MiB" reload:"" help:"Bytes of all nodes together that may wait for the sinks; 0: no limit. Each node may always have one message."`
	MaxOpenFiles  int                  `group:"limits" default:"1000" help:"Log files that are open at a time. At the limit, the least recently used file is closed until its next record."`

	MaxLogsPerNode int `group:"limits" default:"1000" help:"Logs that one node may begin: one for each path, and one for each further stream and set of columns in it. Batches for more logs are dropped and counted as many_files."`
}

// archiveFlags are the flags about rotated logs.
type archiveFlags struct {
	Name            string            `group:"archive" placeholder:"NAME" help:"Name of this logger in the names of rotated logs. Several loggers that rotate into one folder need one each."`
	MaxFileSize     daemon.ByteSize   `group:"archive" default:"0" help:"Size at which a log file is rotated, in addition to --rotate; 0: no rotation by size."`
	Archive         string            `group:"archive" placeholder:"DIR" help:"Folder to which rotated logs move, as zeekctl keeps it: DIR/YYYY-MM-DD/conn.HH:MM:SS-HH:MM:SS.log. Default: they stay in --dir."`
	ArchiveCompress files.Compression `group:"archive" placeholder:"gzip|zstd[:LEVEL]" help:"Compression of the logs in --archive, as in gzip:6 or zstd:3, which are the default levels. Level 1 is fast; gzip:9 and zstd:22 are small. Default: none."`
	ArchiveMaxAge   daemon.Duration   `group:"archive" default:"0s" help:"Age at which archived logs are deleted, as in 720h; 0: never."`
	ArchiveMaxBytes daemon.ByteSize   `group:"archive" default:"0" help:"Size of all archived logs beyond which the oldest are deleted; 0: no limit."`

	PostprocessorTimeout daemon.Duration `group:"archive" default:"15m" help:"Time after which a post-processor of rotated logs is killed; 0: never."`
}

// options returns the options of Zeek's logging that result from the flags.
func (f *loggerFlags) options(log *slog.Logger) (*redef.Options, error) {
	scripts := make([][]byte, len(f.Redefs))
	for i, name := range f.Redefs {
		script, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--redefs: %w", err)
		}
		scripts[i] = script
	}
	o := redef.DefaultOptions()
	for i, script := range scripts {
		skipped, err := o.Redefs(script)
		if err != nil {
			return nil, daemon.Usagef("--redefs %s: %w", f.Redefs[i], err)
		}
		for _, s := range skipped {
			log.Info("a line of --redefs has no effect on zmtpd", "file", f.Redefs[i], "line",
				s.Line, "what", s.What, "why", s.Why)
		}
	}
	for _, assignment := range f.Redef {
		if err := o.Redef(assignment); err != nil {
			return nil, daemon.Usagef("--redef %s: %w", assignment, err)
		}
	}

	// Flags win over the files of --redefs. Two flags that contradict each other are an error. An
	// option is set by --redef if its value does not depend on the value before.
	on, off := redef.DefaultOptions(), redef.DefaultOptions()
	on.Format.UseJSON, on.RotationInterval = true, time.Hour
	for _, assignment := range f.Redef {
		_, _ = on.Redef(assignment), off.Redef(assignment) // the errors are those from above
	}
	if useJSON := f.Format == "json"; f.Format != "" {
		if on.Format.UseJSON == off.Format.UseJSON && o.Format.UseJSON != useJSON {
			return nil, daemon.Usagef("--format %s contradicts --redef LogAscii::use_json=%s: "+
				"remove one of the two", f.Format, zeekBool(o.Format.UseJSON))
		}
		o.Format.UseJSON = useJSON
	}
	if f.Rotate != nil {
		interval := time.Duration(*f.Rotate)
		if on.RotationInterval == off.RotationInterval && o.RotationInterval != interval {
			return nil, daemon.Usagef("--rotate %v contradicts --redef "+
				"Log::default_rotation_interval=%v: remove one of the two", interval,
				o.RotationInterval)
		}
		o.RotationInterval = interval
		if err := o.Validate(); err != nil {
			return nil, daemon.Usagef("--rotate %v: %w", interval, err)
		}
	}
	if err := o.Validate(); err != nil {
		return nil, &daemon.UsageError{Err: err}
	}
	return o, nil
}

func zeekBool(b bool) string {
	if b {
		return "T"
	}
	return "F"
}

// logger returns the flags of the logger for every command that embeds them.
func (f *loggerFlags) logger() *loggerFlags { return f }

// queues sets the limits of the queues in a socket's configuration.
func (f *loggerFlags) queues(config zmtp.Config) zmtp.Config {
	config.RecvHWM, config.RecvBytes = int(daemon.Limit(f.RcvHWM)), daemon.Limit(f.RcvBytes)
	config.TotalRecvBytes = daemon.Limit(f.TotalRcvBytes)
	return config
}

// domainPull is the ZAP domain of the logger's socket.
const domainPull = access.DomainLogs

// loggerJob is the logger as a job of a daemon.
type loggerJob struct {
	flags    *loggerFlags
	access   *daemon.Access
	pull     *zmtp.Pull
	receiver *pipeline.Receiver
	sinks    *sinks
	labels   loggerLabels
}

// newLoggerJob makes the job. Records of --publish-logs go to p.
func newLoggerJob(flags *loggerFlags, p logPublisher, env *daemon.Env) (*loggerJob, error) {
	config, err := env.Access.Protect(flags.queues(env.Socket()), domainPull)
	if err != nil {
		return nil, err
	}
	sinks, err := flags.openSinks(env, p)
	if err != nil {
		return nil, err
	}
	pull := zmtp.NewPull(config)
	env.Access.Cover(pull)
	receiver := pipeline.Serve(pull, env.Log, sinks.outlets...)
	return &loggerJob{flags: flags, access: env.Access, pull: pull, sinks: sinks,
		receiver: receiver}, nil
}

// Describe implements [daemon.Describer].
func (j *loggerJob) Describe() []any {
	what := []any{"sinks", j.flags.Sink}
	if j.sinks.files != nil {
		format := "tsv"
		if j.sinks.options.Format.UseJSON {
			format = "json"
		}
		what = append(what, "format", format, "dir", absolute(j.flags.Dir), "rotate",
			rotation(j.sinks.options.RotationInterval))
		if j.flags.Archive != "" {
			what = append(what, "archive", j.flags.Archive)
		}
	}
	if j.flags.Spool != "" {
		what = append(what, "spool", absolute(j.flags.Spool))
	}
	return what
}

// absolute returns the absolute path of a folder, or the path as it is if the working folder is
// unknown.
func absolute(dir string) string {
	if path, err := filepath.Abs(dir); err == nil {
		return path
	}
	return dir
}

func rotation(interval time.Duration) string {
	if interval == 0 {
		return "never"
	}
	return interval.String()
}

// maxWriteErrorAge is the age up to which a failed write tells that files cannot be written. A
// failed write is repeated sooner than that.
const maxWriteErrorAge = 10 * time.Second

// Ready implements [daemon.Readier]. The logger is not ready while nodes wait for a sink, or while
// files cannot be written.
func (j *loggerJob) Ready() error {
	for _, o := range j.sinks.outlets {
		st := o.Stats()
		var failure error
		if o.Name() == sinkFiles && st.Queued.Records > 0 {
			files := j.sinks.files.Stats()
			if files.LastError != nil &&
				(st.Waiting != nil || time.Since(files.LastErrorTime) < maxWriteErrorAge) {
				failure = fmt.Errorf("log files cannot be written: %w", files.LastError)
			}
		}
		if st.Waiting != nil {
			failure = errors.Join(fmt.Errorf("nodes wait for sink %s: %w", o.Name(), st.Waiting),
				failure)
		}
		if failure != nil {
			return failure
		}
	}
	return nil
}

func (j *loggerJob) Name() string { return "logger" }

func (j *loggerJob) Reload(now daemon.Command) {
	flags := now.(interface{ logger() *loggerFlags }).logger()
	j.pull.Reconfigure(flags.queues(daemon.SocketConfig(now)))
	if j.sinks.files != nil {
		j.sinks.files.Reopen()
	}
}

func (j *loggerJob) Listen() ([]daemon.Endpoint, error) {
	return daemon.BindAll("--listen", "PULL", j.flags.Listen, j.pull.Listen)
}

// Shutdown delivers what was received. It returns an error if something is lost.
func (j *loggerJob) Shutdown(ctx context.Context) error {
	err := j.receiver.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // what was lost, if anything, is counted below
	}
	err = errors.Join(err, j.sinks.close(ctx))
	if n := j.pull.Stats().Dropped[zmtp.DropClosed]; n > 0 {
		err = errors.Join(err,
			fmt.Errorf("%d log messages that were received could not be written within "+
				"--shutdown-timeout and are lost", n))
	}
	return err
}

// Summary implements [daemon.Job]. It has a group for each sink.
func (j *loggerJob) Summary() []any {
	in := j.receiver.Accounts()
	refused := j.pull.Stats().Dropped.Total()
	for _, n := range in.Dropped {
		refused += n.Messages
	}
	what := []any{"received", j.pull.Stats().In.Messages, "refused", refused}
	for _, o := range j.sinks.outlets {
		st := o.Stats()
		dropped := pipeline.Counts{}
		for _, n := range st.Dropped {
			dropped.Messages += n.Messages
		}
		what = append(what, slog.Group(o.Name(), "written", st.Written.Messages, "records",
			st.Written.Records,
			"dropped", dropped.Messages, "queued", st.Queued.Messages))
	}
	return what
}

func (j *loggerJob) Status() any { return j.newStatus() }

func (j *loggerJob) Collect(ch chan<- prometheus.Metric) {
	peers := j.pull.Peers()
	daemon.CollectSocket(ch, "pull", j.pull.Stats(), peers)
	j.access.CollectPeers(ch, domainPull, peers)
	j.labels.collect(ch, j)
	j.sinks.collectPublish(ch)
}

type loggerCommand struct {
	loggerFlags
	publishToFlags
	daemon.Flags
}

// Jobs implements [daemon.Command].
func (c *loggerCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	node, err := newClusterJob(&c.clusterFlags, env, nil)
	if err != nil {
		return nil, err
	}
	if len(c.PublishLogs) == 0 {
		logger, err := newLoggerJob(&c.loggerFlags, logPublisher{}, env)
		return node.with(logger), err
	}
	broker, err := c.publishToFlags.open(env)
	if err != nil {
		return nil, err
	}
	logger, err := newLoggerJob(&c.loggerFlags, broker.publisher(), env)
	if err != nil {
		return nil, err
	}
	broker.sink = logger.sinks.publish
	return node.with(logger, broker), nil
}
