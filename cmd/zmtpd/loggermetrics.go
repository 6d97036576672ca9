package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
)

// The metrics of the logger, of its sinks, and of the files. For each sink, log path and node, at
// every moment: received = written + queued + dropped.
var (
	loggerMessages = daemon.Counter("zmtpd_logger_received_messages_total",
		"Log messages received.")
	loggerRecords = daemon.Counter("zmtpd_logger_received_records_total",
		"Log records received.")
	loggerRefused = daemon.Counter("zmtpd_logger_refused_messages_total",
		"Messages received that are not log messages.", "reason")

	sinkReceived = daemon.Counter("zmtpd_sink_received_records_total",
		"Log records for a sink, including those that an earlier process left in its spool.",
		"sink", "path")
	sinkWritten = daemon.Counter("zmtpd_sink_written_records_total",
		"Log records that a sink has delivered.", "sink", "path")
	sinkDropped = daemon.Counter("zmtpd_sink_dropped_records_total",
		"Log records that were refused or could not be delivered.", "sink", "path", "reason")
	sinkQueued = daemon.Gauge("zmtpd_sink_queued_records",
		"Log records that a sink has not delivered yet.", "sink", "path")
	sinkNodeReceived = daemon.Counter("zmtpd_sink_node_received_records_total",
		"Log records for a sink, by node.", "sink", "node")
	sinkNodeWritten = daemon.Counter("zmtpd_sink_node_written_records_total",
		"Log records that a sink has delivered, by node.", "sink", "node")
	sinkNodeDropped = daemon.Counter("zmtpd_sink_node_dropped_records_total",
		"Log records that were refused or could not be delivered, by node.", "sink", "node",
		"reason")
	sinkNodeQueued = daemon.Gauge("zmtpd_sink_node_queued_records",
		"Log records that a sink has not delivered yet, by node.", "sink", "node")
	sinkDroppedMessages = daemon.Counter("zmtpd_sink_dropped_messages_total",
		"Log messages of which no record was delivered.", "sink", "reason")
	sinkQueueBytes = daemon.Gauge("zmtpd_sink_queue_bytes",
		"Bytes of log batches that wait in memory for a sink.", "sink")
	sinkSpooling = daemon.Gauge("zmtpd_sink_spooling",
		"1 while log batches for a sink go through its spool, because the sink does not keep up "+
			"or --spool-first is set.", "sink")
	sinkBlocked = daemon.Gauge("zmtpd_sink_nodes_wait",
		"1 while nodes wait for a sink.", "sink")
	sinkSpoolMessages = daemon.Gauge("zmtpd_sink_spool_messages",
		"Log messages in the spool of a sink.", "sink")
	sinkSpoolBytes = daemon.Gauge("zmtpd_sink_spool_bytes",
		"Size of the spool of a sink on disk.", "sink")
	sinkSpoolSetAside = daemon.Counter("zmtpd_sink_spool_set_aside_total",
		"Batches of the spool that were moved to its folder \"aside\", because the process died "+
			"at them twice or they are not log batches.", "sink")

	filesWrittenBytes = daemon.Counter("zmtpd_files_written_bytes_total",
		"Bytes of logs written, including headers.", "path")
	filesOpen = daemon.Gauge("zmtpd_files_open",
		"Log files that are open.")
	filesRotated = daemon.Counter("zmtpd_files_rotated_total",
		"Log files that were rotated.")
	filesRotating = daemon.Gauge("zmtpd_files_rotating",
		"Rotated log files that are being synced, compressed or moved.")
	filesRotationFailures = daemon.Counter("zmtpd_files_rotation_failures_total",
		"Attempts to rotate a log file that failed; they are repeated.")
	filesPostprocessed = daemon.Counter("zmtpd_files_postprocessed_total",
		"Finished runs of the post-processor.", "result")
	filesExpired = daemon.Counter("zmtpd_files_expired_total",
		"Archived log files deleted because of --archive-max-age or --archive-max-bytes.")
	kafkaUp = daemon.Gauge("zmtpd_kafka_up",
		"1 if a broker of Kafka has answered and no record is known to be stuck.")
	kafkaRetries = daemon.Counter("zmtpd_kafka_retried_records_total",
		"Log records sent to Kafka again.")
	filesLastError = daemon.Gauge("zmtpd_files_last_error_timestamp_seconds",
		"Time of the last failure to write or rotate a log file, in seconds since 1970; 0: never.")
)

// loggerLabels are the labels of log paths and nodes.
type loggerLabels struct{ paths, nodes daemon.Labels }

// collect sends the metrics of the logger.
func (l *loggerLabels) collect(ch chan<- prometheus.Metric, j *loggerJob) {
	in := j.receiver.Accounts()
	daemon.Send(ch, loggerMessages, in.Received.Messages)
	daemon.Send(ch, loggerRecords, in.Received.Records)
	for _, r := range pipeline.Reasons() {
		daemon.Send(ch, loggerRefused, in.Dropped[r].Messages, r.String())
	}
	for _, o := range j.sinks.outlets {
		l.collectSink(ch, o.Stats())
	}
	if j.sinks.kafka != nil {
		st := j.sinks.kafka.Stats()
		daemon.Send(ch, kafkaUp, oneIf(st.Up))
		daemon.Send(ch, kafkaRetries, st.Retries)
	}
	if j.sinks.files != nil {
		l.collectFiles(ch, j.sinks.files.Stats())
	}
}

// recordSums are the sums of all accounts with one label.
type recordSums struct {
	received, written, queued uint64
	dropped                   map[pipeline.Reason]uint64
}

func (r *recordSums) add(received, written, queued pipeline.Counts,
	dropped map[pipeline.Reason]pipeline.Counts) {
	r.received += received.Records
	r.written += written.Records
	r.queued += queued.Records
	for reason, n := range dropped {
		if r.dropped == nil {
			r.dropped = map[pipeline.Reason]uint64{}
		}
		r.dropped[reason] += n.Records
	}
}

// byLabel are sums by label.
type byLabel map[string]*recordSums

func (b byLabel) of(label string) *recordSums {
	if b[label] == nil {
		b[label] = &recordSums{}
	}
	return b[label]
}

func (b byLabel) send(ch chan<- prometheus.Metric, sink string, received, written, dropped,
	queued daemon.Metric) {
	for label, r := range b {
		daemon.Send(ch, received, r.received, sink, label)
		daemon.Send(ch, written, r.written, sink, label)
		daemon.Send(ch, queued, r.queued, sink, label)
		for reason, n := range r.dropped {
			daemon.Send(ch, dropped, n, sink, label, reason.String())
		}
	}
}

// collectSink sends the metrics of one sink.
func (l *loggerLabels) collectSink(ch chan<- prometheus.Metric, st pipeline.OutletStats) {
	paths, nodes := byLabel{}, byLabel{}
	for _, p := range st.Logs {
		paths.of(l.paths.Label(p.Path)).add(p.Received, p.Written, p.Queued, p.ByReason)
	}
	for _, n := range st.Senders {
		nodes.of(l.nodes.Label(n.Node)).add(n.Received, n.Written, n.Queued, n.ByReason)
	}
	paths.send(ch, st.Name, sinkReceived, sinkWritten, sinkDropped, sinkQueued)
	nodes.send(ch, st.Name, sinkNodeReceived, sinkNodeWritten, sinkNodeDropped, sinkNodeQueued)
	for _, r := range pipeline.Reasons() {
		daemon.Send(ch, sinkDroppedMessages, st.Dropped[r].Messages, st.Name, r.String())
	}
	daemon.Send(ch, sinkQueueBytes, st.WindowBytes, st.Name)
	daemon.Send(ch, sinkSpooling, oneIf(st.Spooling), st.Name)
	daemon.Send(ch, sinkBlocked, oneIf(st.Waiting != nil), st.Name)
	if st.Spool != nil {
		daemon.Send(ch, sinkSpoolMessages, st.Spool.Records, st.Name)
		daemon.Send(ch, sinkSpoolBytes, st.Spool.Bytes, st.Name)
		daemon.Send(ch, sinkSpoolSetAside, st.Spool.SetAside, st.Name)
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// collectFiles sends the metrics of the log files.
func (l *loggerLabels) collectFiles(ch chan<- prometheus.Metric, st files.Stats) {
	bytes := map[string]uint64{} // several streams and paths may share a label
	for _, log := range st.Logs {
		bytes[l.paths.Label(log.Path)] += log.Bytes
	}
	for label, n := range bytes {
		daemon.Send(ch, filesWrittenBytes, n, label)
	}
	daemon.Send(ch, filesOpen, st.OpenFiles)
	r := st.Rotation
	daemon.Send(ch, filesRotated, r.Rotated)
	daemon.Send(ch, filesRotating, r.Pending)
	daemon.Send(ch, filesRotationFailures, r.Failures)
	daemon.Send(ch, filesPostprocessed, r.Postprocessed-r.PostprocessFailed, "ok")
	daemon.Send(ch, filesPostprocessed, r.PostprocessFailed, "failed")
	daemon.Send(ch, filesExpired, r.Expired)
	at := 0.0
	if st.LastError != nil {
		at = float64(st.LastErrorTime.UnixMilli()) / 1000
	}
	daemon.Send(ch, filesLastError, at)
}
