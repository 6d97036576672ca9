package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/pipeline/recorder"
	"zmtpd/zmtp"
)

// tapFlags are the flags about copies of the broker's traffic.
type tapFlags struct {
	Tap         []string        `group:"tap" placeholder:"ENDPOINT" help:"Endpoint of a PUB socket that publishes a copy of what publishers send (repeatable)."`
	TapFile     string          `group:"tap" placeholder:"FILE" help:"Recording to which a copy is appended. zmtpd replay sends it again."`
	TapFileSize daemon.ByteSize `group:"tap" default:"1GiB" help:"Size at which --tap-file stops growing; later messages are missing in it and counted. 0: no limit."`
	TapTopic    []string        `group:"tap" sep:"none" placeholder:"PREFIX" help:"Prefix of the topics to copy (repeatable). Default: all topics."`
}

// domainTap is the ZAP domain of the tap's socket.
const domainTap = "tap"

// tapJob is the tap of a broker.
type tapJob struct {
	flags *tapFlags
	file  *recorder.Recorder // nil without --tap-file
}

// open opens the file and returns the tap's configuration for the forwarder, nil without a tap.
// config is that of the broker's socket for subscribers, without access control.
func (f *tapFlags) open(config zmtp.Config, env *daemon.Env) (*tapJob, *forwarder.Tap, error) {
	if len(f.Tap) == 0 && f.TapFile == "" {
		if len(f.TapTopic) > 0 {
			return nil, nil,
				daemon.Usagef("--tap-topic without --tap or --tap-file: there is no copy; give " +
					"one of them too")
		}
		return nil, nil, nil
	}
	var err error
	tap := &forwarder.Tap{Topics: f.TapTopic}
	if tap.Socket, err = env.Access.Protect(config, domainTap); err != nil {
		return nil, nil, err
	}
	job := &tapJob{flags: f}
	if f.TapFile != "" {
		if job.file, err = recorder.Open(f.TapFile, int64(f.TapFileSize), env.Log); err != nil {
			return nil, nil, fmt.Errorf("--tap-file: %w", err)
		}
		tap.Take = job.file.Take
	}
	return job, tap, nil
}

// listen binds the endpoints of the tap.
func (j *tapJob) listen(f *forwarder.Forwarder) ([]daemon.Endpoint, error) {
	if j == nil || len(j.flags.Tap) == 0 {
		return nil, nil
	}
	return daemon.BindAll("--tap", "PUB", j.flags.Tap, f.ListenTap)
}

// shutdown writes what waits for the file. The forwarder has ended before.
func (j *tapJob) shutdown() {
	if j != nil && j.file != nil {
		j.file.Close()
	}
}

// summary returns attributes for the broker's last line in the log.
func (j *tapJob) summary(st *forwarder.TapStats) []any {
	if j == nil {
		return nil
	}
	dropped := st.Socket.Dropped.Total()
	if j.file != nil {
		dropped += daemon.Sum(j.file.Stats().Dropped)
	}
	return []any{"copied", st.Copied.Messages, "tap_dropped", dropped}
}

// The metrics of the tap. In the metrics of sockets, its socket is "tap".
var (
	tapMessages = daemon.Counter("zmtpd_tap_messages_total",
		"Messages copied.")
	tapBytes = daemon.Counter("zmtpd_tap_bytes_total",
		"Bytes of the parts of messages copied.")
	tapFileMessages = daemon.Counter("zmtpd_tap_file_messages_total",
		"Messages written to --tap-file.")
	tapFileSize = daemon.Gauge("zmtpd_tap_file_bytes",
		"Size of --tap-file.")
	tapFileQueue = daemon.Gauge("zmtpd_tap_file_queue_bytes",
		"Bytes that wait to be written to --tap-file.")
	tapFileDropped = daemon.Counter("zmtpd_tap_file_dropped_messages_total",
		"Messages that are missing in --tap-file.", "reason")
)

// collect sends the metrics.
func (j *tapJob) collect(ch chan<- prometheus.Metric, st *forwarder.TapStats) {
	if j == nil {
		return
	}
	daemon.CollectSocket(ch, domainTap, st.Socket, tapPeers(st))
	daemon.Send(ch, tapMessages, st.Copied.Messages)
	daemon.Send(ch, tapBytes, st.Copied.Bytes)
	if j.file == nil {
		return
	}
	file := j.file.Stats()
	daemon.Send(ch, tapFileMessages, file.Written)
	daemon.Send(ch, tapFileSize, file.Size)
	daemon.Send(ch, tapFileQueue, file.QueuedBytes)
	for reason, n := range file.Dropped {
		daemon.Send(ch, tapFileDropped, n, reason.String())
	}
}

// tapPeers returns the subscribers of the tap. st may be nil.
func tapPeers(st *forwarder.TapStats) (peers []zmtp.PeerStats) {
	if st == nil {
		return nil
	}
	for _, s := range st.Subscribers {
		peers = append(peers, s.PeerStats)
	}
	return peers
}

// tapStatus is the part of /status about the tap.
type tapStatus struct {
	Topics []string            `json:"topics"` // prefixes; empty for all
	Copied daemon.Traffic      `json:"copied"`
	Pub    daemon.SocketStatus `json:"pub"`
	File   *tapFileStatus      `json:"file,omitempty"`
}

// tapFileStatus is the state of the tap's file.
type tapFileStatus struct {
	Name       string            `json:"name"`
	Size       int64             `json:"size"`
	Messages   uint64            `json:"messages"` // written
	QueueBytes int64             `json:"queue_bytes"`
	Dropped    map[string]uint64 `json:"dropped,omitempty"` // messages by reason
}

// status returns the part of /status about the tap, nil without one.
func (j *tapJob) status(st *forwarder.TapStats) *tapStatus {
	if j == nil {
		return nil
	}
	s := &tapStatus{Topics: append([]string{}, j.flags.TapTopic...),
		Copied: daemon.Traffic(st.Copied), Pub: daemon.NewSocketStatus(st.Socket)}
	for _, p := range st.Subscribers {
		peer := daemon.NewPeerStatus(p.PeerStats)
		peer.Node, peer.Topics = p.NodeID, p.Topics
		if !p.SlowSince.IsZero() {
			peer.SlowSince = &p.SlowSince
		}
		s.Pub.Peers = append(s.Pub.Peers, peer)
	}
	daemon.SortPeers(s.Pub.Peers)
	if j.file != nil {
		file := j.file.Stats()
		s.File = &tapFileStatus{j.file.Name(), file.Size, file.Written, file.QueuedBytes,
			daemon.ByName(file.Dropped)}
	}
	return s
}
