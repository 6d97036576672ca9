package pipeline

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Counts is a number of messages, each of which holds one batch, and of the
// records in them. What cannot be decoded counts as a message without records.
type Counts struct {
	Messages, Records uint64
}

func (c *Counts) add(d Counts) {
	c.Messages += d.Messages
	c.Records += d.Records
}

func (c *Counts) sub(d Counts) {
	c.Messages -= d.Messages
	c.Records -= d.Records
}

// Stats is what a Logger has done since New. At every moment Received is the sum
// of Written, Queued and all of Dropped.
type Stats struct {
	Received Counts
	Written  Counts            // handed to the operating system
	Queued   Counts            // being decoded, or waiting for the next flush or for a file that cannot be written
	Dropped  map[Reason]Counts // for every reason, in Reasons
	Logs     []LogStats        // by path, then stream
	Senders  []SenderStats     // by node id
	// OpenFiles is the number of log files open now.
	OpenFiles int
	// LastError is the last failure to write, rotate or sync a file, nil if there was
	// none; LastErrorTime is when it happened.
	LastError     error
	LastErrorTime time.Time
}

// LogStats is what was written of one stream to one log path.
type LogStats struct {
	Path, Stream string
	File         string // name of its file in the log folder, without extension; the path unless another stream has that
	Written      Counts
	Bytes        uint64 // with headers
}

// SenderStats is what came from one node.
type SenderStats struct {
	// Node is the id that the node gave itself; it is another one each time the node
	// starts. Empty stands for all nodes beyond the first 1024 and for messages
	// without an id.
	Node     string
	Received Counts
	Dropped  Counts // refused; what Close could not write any more is not told by sender
}

const (
	maxSenders = 1024 // beyond that a node is counted under ""
	maxNodeID  = 256  // bytes; a longer id, which no Zeek has, is counted under ""
)

// sender is the account of one node.
type sender struct {
	received, dropped Counts
	warned            uint64 // bit r is set when a drop for Reason r was logged
}

// account is all that a Logger counts.
type account struct {
	log *slog.Logger

	mu                        sync.Mutex // guards everything below and LogStats of every log
	received, written, queued Counts
	dropped                   map[Reason]Counts
	senders                   map[string]*sender
	openFiles                 int
	lastError                 error
	lastErrorTime             time.Time
}

func (a *account) init(log *slog.Logger) {
	a.log = log
	a.dropped = map[Reason]Counts{}
	a.senders = map[string]*sender{}
	for _, r := range Reasons() {
		a.dropped[r] = Counts{}
	}
}

// sender returns the account of a node. The caller holds mu.
func (a *account) sender(node []byte) *sender {
	if s := a.senders[string(node)]; s != nil {
		return s
	}
	if len(node) > maxNodeID || len(a.senders) >= maxSenders {
		node = nil
	}
	s := a.senders[string(node)]
	if s == nil {
		s = &sender{}
		a.senders[string(node)] = s
	}
	return s
}

// receive counts a message that came in; it is queued from now on.
func (a *account) receive(node []byte, n Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.received.add(n)
	a.queued.add(n)
	a.sender(node).received.add(n)
}

// drop counts a queued message that was dropped, and logs it if it is the first
// of its sender for that reason.
func (a *account) drop(node []byte, n Counts, e *DropError, path string) {
	a.mu.Lock()
	s := a.sender(node)
	first := s.warned&(1<<e.Reason) == 0
	s.warned |= 1 << e.Reason
	s.dropped.add(n)
	a.dropQueued(n, e.Reason)
	a.mu.Unlock()
	if first {
		a.log.Warn("log message dropped, more for this reason from this node are only counted",
			"reason", e.Reason.String(), "node", string(node[:min(len(node), maxNodeID)]), "path", path, "err", e.Err)
	}
}

// dropQueued moves n from queued to dropped. The caller holds mu.
func (a *account) dropQueued(n Counts, r Reason) {
	a.queued.sub(n)
	d := a.dropped[r]
	d.add(n)
	a.dropped[r] = d
}

// failed notes that something went wrong with a file.
func (a *account) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastError, a.lastErrorTime = err, time.Now()
}

// Stats returns what the logger has done so far. It does not wait for any file.
func (l *Logger) Stats() Stats {
	l.mu.Lock() // to the end: a log that is made meanwhile must be in all numbers or none
	defer l.mu.Unlock()
	a := &l.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	st := Stats{
		Received:      a.received,
		Written:       a.written,
		Queued:        a.queued,
		Dropped:       maps.Clone(a.dropped),
		OpenFiles:     a.openFiles,
		LastError:     a.lastError,
		LastErrorTime: a.lastErrorTime,
	}
	for _, p := range l.logs {
		st.Logs = append(st.Logs, p.stats)
	}
	slices.SortFunc(st.Logs, func(x, y LogStats) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Stream, y.Stream))
	})
	for node, s := range a.senders {
		st.Senders = append(st.Senders, SenderStats{node, s.received, s.dropped})
	}
	slices.SortFunc(st.Senders, func(x, y SenderStats) int { return strings.Compare(x.Node, y.Node) })
	return st
}
