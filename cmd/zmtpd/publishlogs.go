package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline"
	"zmtpd/pipeline/logtap"
	"zmtpd/zmtp"
)

// publishFlags are the flags about logs for the subscribers of events.
type publishFlags struct {
	PublishLogs []string `group:"publish" placeholder:"LOG" help:"Path of a log, as in conn, whose records subscribers of events get too, as events in the topic zeek.logs.LOG (repeatable). What a subscriber does not take in time is missing there only."`
}

// publishToFlags are the flags about the broker of a logger that is a process of its own.
type publishToFlags struct {
	PublishTo string             `group:"publish" default:"tcp://127.0.0.1:5556" help:"XSUB endpoint of the broker for --publish-logs."`
	Publish   daemon.ClientFlags `embed:"" prefix:"publish-"`
}

// sinkPublish is the name of the sink for published logs.
const sinkPublish = "publish"

// logPublisher publishes log records. The zero value does not.
type logPublisher struct {
	publish func(*zmtp.Batch) error
	wanted  func(topic []byte) bool
}

// inProcess returns the publisher of a broker in the same process.
func (j *forwarderJob) inProcess() logPublisher {
	return logPublisher{j.f.Join(nil).NewPublisher().TryPublish, j.f.Wanted}
}

// addPublish opens the sink for published logs, if there are to be any.
func (s *sinks) addPublish(f *loggerFlags, p logPublisher, env *daemon.Env) error {
	if len(f.PublishLogs) == 0 {
		return nil
	}
	s.publish = logtap.New(logtap.Config{Paths: f.PublishLogs, Publish: p.publish,
		Wanted: p.wanted, Memory: env.Memory, Logger: env.Log})
	o, err := pipeline.NewOutlet(s.publish, pipeline.OutletConfig{Name: sinkPublish,
		Memory: env.Memory, Logger: env.Log})
	if err == nil {
		s.outlets = append(s.outlets, o)
	}
	return err
}

var publishedRecords = daemon.Counter("zmtpd_published_log_records_total",
	"Records of --publish-logs. published: given to the broker; unwanted: without a subscriber; "+
		"the others are dropped.", "result")

// collectPublish sends the metrics of published logs.
func (s *sinks) collectPublish(ch chan<- prometheus.Metric) {
	if s.publish == nil {
		return
	}
	st := s.publish.Stats()
	daemon.Send(ch, publishedRecords, st.Published, "published")
	daemon.Send(ch, publishedRecords, st.Unwanted, "unwanted")
	daemon.Send(ch, publishedRecords, st.Backlog, "backlog")
	daemon.Send(ch, publishedRecords, st.Invalid, "invalid")
	daemon.Send(ch, publishedRecords, st.Failed, "failed")
}

// publishStatus is the part of /status about published logs, in records.
type publishStatus struct {
	Logs      []string `json:"logs"`
	Published uint64   `json:"published"`
	Unwanted  uint64   `json:"unwanted"`
	Backlog   uint64   `json:"backlog"`
	Invalid   uint64   `json:"invalid"`
	Failed    uint64   `json:"failed"`
}

// publishStatus returns that part, nil if no logs are published.
func (j *loggerJob) publishStatus() *publishStatus {
	if j.sinks.publish == nil {
		return nil
	}
	st := j.sinks.publish.Stats()
	return &publishStatus{j.flags.PublishLogs, st.Published, st.Unwanted, st.Backlog, st.Invalid,
		st.Failed}
}

// publishJob is the socket with which a logger publishes to a broker in another process.
type publishJob struct {
	flags *publishToFlags
	pub   *zmtp.Pub
	sink  *logtap.Sink // set when the logger is made
}

// open makes the job.
func (f *publishToFlags) open(env *daemon.Env) (*publishJob, error) {
	config := env.Socket()
	config.RetryAlways = true
	var err error
	if config.Mechanism, err = f.Publish.Mechanism("publish-"); err != nil {
		return nil, err
	}
	if !f.Publish.Encrypted() && env.Access.Keys() != nil {
		env.Log.Warn("published logs are not encrypted, logs from the nodes are; give " +
			"--publish-curve-server-key if the broker has keys")
	}
	return &publishJob{flags: f, pub: zmtp.NewPub(config)}, nil
}

// publisher returns what the job does.
func (j *publishJob) publisher() logPublisher {
	return logPublisher{
		publish: func(b *zmtp.Batch) error { _, err := j.pub.TrySendBatch(b); return err },
		wanted:  func([]byte) bool { return j.pub.Topics() > 0 },
	}
}

func (j *publishJob) Name() string { return sinkPublish }

func (j *publishJob) Listen() ([]daemon.Endpoint, error) { return nil, nil }

// Targets implements [daemon.Connecter].
func (j *publishJob) Targets() []daemon.Target {
	return []daemon.Target{{Flag: "--publish-to", Endpoint: j.flags.PublishTo}}
}

// Connect implements [daemon.Connecter].
func (j *publishJob) Connect() error {
	if err := j.pub.Connect(j.flags.PublishTo); err != nil {
		return daemon.EndpointError("--publish-to", j.flags.PublishTo, err)
	}
	return nil
}

func (j *publishJob) Reload(now daemon.Command) { j.pub.Reconfigure(daemon.SocketConfig(now)) }

// Shutdown waits for the last records of the logger, and sends what waits for the broker. What a
// broker does not take is counted as dropped.
func (j *publishJob) Shutdown(ctx context.Context) error {
	select {
	case <-j.sink.Done():
	case <-ctx.Done():
	}
	j.pub.Shutdown(ctx)
	return nil
}

func (j *publishJob) Collect(ch chan<- prometheus.Metric) {
	daemon.CollectSocket(ch, "publish", j.pub.Stats(), j.pub.Peers())
}

func (j *publishJob) Status() any { return daemon.NewSocketStatus(j.pub.Stats()) }

func (j *publishJob) Summary() []any {
	st := j.pub.Stats()
	return []any{"sent", st.Out.Messages, "dropped", st.Dropped.Total()}
}
