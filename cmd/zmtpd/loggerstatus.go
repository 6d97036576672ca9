package main

import (
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
)

// loggerStatus is the part of /status about the logger.
type loggerStatus struct {
	Pull     daemon.SocketStatus `json:"pull"`
	Received counts              `json:"received"`
	Refused  map[string]counts   `json:"refused"` // not log messages, by reason
	Sinks    []sinkStatus        `json:"sinks"`
	Files    *filesStatus        `json:"files,omitempty"`
	Kafka    *kafkaStatus        `json:"kafka,omitempty"`
	// Published are the records of --publish-logs.
	Published *publishStatus `json:"published,omitempty"`
}

// counts are messages, each of one batch, and the records in them.
type counts struct {
	Messages uint64 `json:"messages"`
	Records  uint64 `json:"records"`
}

// sinkStatus is the state of one sink. At every moment received = written + queued + dropped.
type sinkStatus struct {
	Sink string `json:"sink"`
	accountStatus
	Recovered  counts       `json:"recovered"`            // of received: from the spool of an earlier process
	QueueBytes int64        `json:"queue_bytes"`          // in memory
	Spooling   bool         `json:"spooling"`             // batches go through the spool
	NodesWait  string       `json:"nodes_wait,omitempty"` // why nodes wait for the sink
	Spool      *spoolStatus `json:"spool,omitempty"`
	Paths      []pathStatus `json:"paths"`
	Nodes      []nodeStatus `json:"nodes"`
}

// accountStatus accounts for records: received = written + queued + dropped.
type accountStatus struct {
	Received counts            `json:"received"`
	Written  counts            `json:"written"`
	Queued   counts            `json:"queued"`
	Dropped  map[string]counts `json:"dropped"` // by reason
}

type spoolStatus struct {
	Messages uint64 `json:"messages"`
	Bytes    int64  `json:"bytes"`     // on disk
	SetAside uint64 `json:"set_aside"` // batches that were moved to the folder "aside"
}

type pathStatus struct {
	Path   string `json:"path"`
	Stream string `json:"stream"`
	accountStatus
}

type nodeStatus struct {
	Node string `json:"node"` // "" without a node id, and for nodes beyond the first 1024
	accountStatus
}

// filesStatus is the state of the log files.
type filesStatus struct {
	Open      int         `json:"open"`
	LastError *lastError  `json:"last_error,omitempty"`
	Logs      []logStatus `json:"logs"`
}

// kafkaStatus is the state of the connection to Kafka.
type kafkaStatus struct {
	Up      bool      `json:"up"` // a broker has answered, and no record is known to be stuck
	Since   time.Time `json:"since"`
	Error   string    `json:"error,omitempty"`
	Records uint64    `json:"records"` // acknowledged
	Bytes   uint64    `json:"bytes"`
	Retries uint64    `json:"retries"`
}

type lastError struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
}

type logStatus struct {
	Path    string `json:"path"`
	Stream  string `json:"stream"`
	File    string `json:"file"` // without extension
	Batches uint64 `json:"batches"`
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

func (j *loggerJob) newStatus() *loggerStatus {
	in := j.receiver.Accounts()
	s := &loggerStatus{
		Pull:     daemon.NewSocketStatus(j.pull.Stats()),
		Received: counts(in.Received),
		Refused:  countsByReason(in.Dropped),
		Sinks:    []sinkStatus{},
	}
	nodes := j.receiver.Nodes()
	for _, p := range j.pull.Peers() {
		peer := daemon.NewPeerStatus(p)
		peer.Node = nodes[p.ID]
		s.Pull.Peers = append(s.Pull.Peers, peer)
	}
	daemon.SortPeers(s.Pull.Peers)
	for _, o := range j.sinks.outlets {
		s.Sinks = append(s.Sinks, newSinkStatus(o.Stats()))
	}
	if j.sinks.files != nil {
		s.Files = newFilesStatus(j.sinks.files.Stats())
	}
	if j.sinks.kafka != nil {
		st := j.sinks.kafka.Stats()
		s.Kafka = &kafkaStatus{Up: st.Up, Since: st.Since, Records: st.Records, Bytes: st.Bytes,
			Retries: st.Retries}
		if st.Err != nil {
			s.Kafka.Error = st.Err.Error()
		}
	}
	s.Published = j.publishStatus()
	return s
}

func newSinkStatus(st pipeline.OutletStats) sinkStatus {
	s := sinkStatus{
		Sink: st.Name,
		accountStatus: accountStatus{counts(st.Received), counts(st.Written), counts(st.Queued),
			countsByReason(st.Dropped)},
		Recovered:  counts(st.Recovered),
		QueueBytes: st.WindowBytes,
		Spooling:   st.Spooling,
		Paths:      []pathStatus{},
		Nodes:      []nodeStatus{},
	}
	if st.Waiting != nil {
		s.NodesWait = st.Waiting.Error()
	}
	if st.Spool != nil {
		s.Spool = &spoolStatus{st.Spool.Records, st.Spool.Bytes, st.Spool.SetAside}
	}
	for _, l := range st.Logs {
		s.Paths = append(s.Paths, pathStatus{l.Path, l.Stream,
			accountStatus{counts(l.Received), counts(l.Written), counts(l.Queued),
				countsByReason(l.ByReason)}})
	}
	for _, n := range st.Senders {
		s.Nodes = append(s.Nodes, nodeStatus{n.Node,
			accountStatus{counts(n.Received), counts(n.Written), counts(n.Queued),
				countsByReason(n.ByReason)}})
	}
	return s
}

func newFilesStatus(st files.Stats) *filesStatus {
	s := &filesStatus{Open: st.OpenFiles, Logs: []logStatus{}}
	if st.LastError != nil {
		s.LastError = &lastError{st.LastErrorTime, st.LastError.Error()}
	}
	for _, l := range st.Logs {
		s.Logs = append(s.Logs, logStatus{l.Path, l.Stream, l.File, l.Written.Messages,
			l.Written.Records, l.Bytes})
	}
	return s
}

// countsByReason returns the counters that are not 0, by the reason's name.
func countsByReason(dropped map[pipeline.Reason]pipeline.Counts) map[string]counts {
	named := map[string]counts{}
	for reason, n := range dropped {
		if n.Messages > 0 || n.Records > 0 {
			named[reason.String()] = counts(n)
		}
	}
	return named
}
