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

// Accounts say what has become of log batches. At every moment Received is the sum
// of Written, Queued and Dropped, in all and for each log and sender.
type Accounts struct {
	Received Counts
	Written  Counts
	Queued   Counts
	Dropped  map[Reason]Counts // for every reason, in Reasons
	Logs     []LogStats        // by path, then stream
	Senders  []SenderStats     // by node id
}

// Stats is what a Logger has done since New. Written is what was handed to the operating system; Queued
// is being decoded, or waits for the next flush or for a file that cannot be written. What a Sink gives back is
// not in it any more.
type Stats struct {
	Accounts
	// OpenFiles is the number of log files open now.
	OpenFiles int
	Rotation  RotationStats
	// LastError is the last failure to write, rotate, archive or sync a file, or of a
	// post-processor, nil if there was none; LastErrorTime is when it happened.
	LastError     error
	LastErrorTime time.Time
}

// LogStats is what came from one stream for one log path. What is refused before its log
// is known is not in it, such as a batch with a bad header.
type LogStats struct {
	Path, Stream string // both empty for all logs beyond the first 10000
	// File is the name of its file in the log folder, without extension: the path unless another stream has that. Empty
	// where there are no files.
	File string

	Received, Written, Queued, Dropped Counts

	ByReason map[Reason]Counts // of Dropped; nil if nothing was

	Bytes uint64 // written to files, with headers, compressed if logs are while they are written
}

// SenderStats is what came from one node.
type SenderStats struct {
	// Node is the id that the node gave itself; it is another one each time the node
	// starts. Empty stands for all nodes beyond the first 1024 and for messages
	// without an id.
	Node string

	Received, Written, Queued, Dropped Counts

	ByReason map[Reason]Counts // of Dropped; nil if nothing was
}

// RotationStats is what has become of rotated logs.
type RotationStats struct {
	Rotated  uint64 // logs that have got their final name
	Pending  int    // on their way there: being synced, compressed, moved
	Failures uint64 // attempts that failed; a log whose attempt failed is tried again
	// Postprocessed and PostprocessFailed count runs of the post-processor that have ended, the second those
	// with another exit status than 0 and those that could not be started; PostprocessRunning those
	// that run or wait to run.
	Postprocessed, PostprocessFailed uint64
	PostprocessRunning               int
	Expired, ExpiredBytes            uint64 // archived logs that were deleted, for their age or the room they took
}

const (
	maxSenders = 1024   // beyond that a node is counted under ""
	maxNodeID  = 256    // bytes; a longer id, which no Zeek has, is counted under ""
	maxLogs    = 10_000 // beyond that a log is counted under ""
)

// balance is one account. account.mu guards it.
type balance struct {
	received, written, queued, dropped Counts
	byReason                           map[Reason]Counts // of dropped; nil if nothing was
}

// drop moves n from queued to dropped.
func (b *balance) drop(n Counts, r Reason) {
	b.queued.sub(n)
	b.dropped.add(n)
	if b.byReason == nil {
		b.byReason = map[Reason]Counts{}
	}
	d := b.byReason[r]
	d.add(n)
	b.byReason[r] = d
}

// sender is the account of one node.
type sender struct {
	balance
	warned uint64 // bit r is set when a drop for Reason r was logged
}

// logAccount is the account of one stream and path.
type logAccount struct {
	balance
	file  string
	bytes uint64
}

// share is what one sender has in a buffer.
type share struct {
	from *sender
	n    Counts
}

// shares is what all senders have in a buffer.
type shares []share

func (s *shares) add(from *sender, n Counts) {
	for i := range *s {
		if (*s)[i].from == from {
			(*s)[i].n.add(n)
			return
		}
	}
	*s = append(*s, share{from, n})
}

// remove takes out what add has put in.
func (s shares) remove(from *sender, n Counts) {
	for i := range s {
		if s[i].from == from {
			s[i].n.sub(n)
		}
	}
}

func (s shares) sum() (n Counts) {
	for _, one := range s {
		n.add(one.n)
	}
	return n
}

// account is all that a Logger, an Outlet or a Receiver counts.
type account struct {
	log *slog.Logger // with who it is that counts

	mu            sync.Mutex // guards everything below, and every sender and logAccount
	total         balance
	senders       map[string]*sender
	logs          map[logKey]*logAccount
	openFiles     int
	rotation      RotationStats
	lastError     error
	lastErrorTime time.Time
}

func (a *account) init(log *slog.Logger) {
	a.log = log
	a.senders = map[string]*sender{}
	a.logs = map[logKey]*logAccount{}
	a.total.byReason = map[Reason]Counts{}
	for _, r := range Reasons() {
		a.total.byReason[r] = Counts{}
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

// logAccount returns the account of a log whose file has that name, without extension.
func (a *account) logAccount(key logKey, file string) *logAccount {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logOf(key, file)
}

// admit is receive and receiveLog in one.
func (a *account) admit(node []byte, key logKey, n Counts) (*sender, *logAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from, log := a.sender(node), a.logOf(key, "")
	for _, b := range []*balance{&a.total, &from.balance, &log.balance} {
		b.received.add(n)
		b.queued.add(n)
	}
	return from, log
}

// find returns the accounts of what was admitted before.
func (a *account) find(node []byte, key logKey) (*sender, *logAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sender(node), a.logOf(key, "")
}

// logOf is logAccount for a caller who holds mu.
func (a *account) logOf(key logKey, file string) *logAccount {
	s := a.logs[key]
	if s == nil {
		if len(a.logs) >= maxLogs {
			key, file = logKey{}, ""
		}
		if s = a.logs[key]; s == nil {
			s = &logAccount{}
			a.logs[key] = s
		}
	}
	s.file = file
	return s
}

// receive counts a message that came in; it is queued from now on.
func (a *account) receive(node []byte, n Counts) *sender {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sender(node)
	for _, b := range []*balance{&a.total, &s.balance} {
		b.received.add(n)
		b.queued.add(n)
	}
	return s
}

// giveBack takes off the books what was received and is somebody else's business again. s is nil if its log is not known.
func (a *account) giveBack(from *sender, s *logAccount, n Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	balances := []*balance{&a.total, &from.balance}
	if s != nil {
		balances = append(balances, &s.balance)
	}
	for _, b := range balances {
		b.received.sub(n)
		b.queued.sub(n)
	}
}

// receiveLog counts for its log a batch that was received.
func (a *account) receiveLog(s *logAccount, n Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.received.add(n)
	s.queued.add(n)
}

// wrote counts what was written to a log's file.
func (a *account) wrote(s *logAccount, queued shares, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.bytes += uint64(bytes)
	for _, one := range queued {
		for _, b := range []*balance{&a.total, &s.balance, &one.from.balance} {
			b.queued.sub(one.n)
			b.written.add(one.n)
		}
	}
}

// abandon counts what a log could not write for good.
func (a *account) abandon(s *logAccount, queued shares, r Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range queued {
		a.dropQueued(one.from, s, one.n, r)
	}
}

// drop counts a queued message that was dropped, and reports whether it is the first
// of its sender for that reason. s is nil if its log is not known.
func (a *account) drop(from *sender, s *logAccount, n Counts, r Reason) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = from.warned&(1<<r) == 0
	from.warned |= 1 << r
	a.dropQueued(from, s, n, r)
	return first
}

// refuse counts a message that was received and of which no record can be told, and logs it as drop and warn do.
func (a *account) refuse(node []byte, e *DropError) {
	n := Counts{Messages: 1}
	if a.drop(a.receive(node, n), nil, n, e.Reason) {
		a.warn(e, node, "")
	}
}

// warn logs the first drop of a sender for a reason.
func (a *account) warn(e *DropError, node []byte, path string) {
	a.log.Warn("log message dropped, more for this reason from this node are only counted",
		"reason", e.Reason.String(), "node", string(node[:min(len(node), maxNodeID)]), "path", path, "err", e.Err)
}

// dropQueued moves n from queued to dropped. The caller holds mu.
func (a *account) dropQueued(from *sender, s *logAccount, n Counts, r Reason) {
	a.total.drop(n, r)
	from.drop(n, r)
	if s != nil {
		s.drop(n, r)
	}
}

// opened counts files that were opened, or closed if n is negative.
func (a *account) opened(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.openFiles += n
}

// rotating changes what is counted of rotated logs.
func (a *account) rotating(change func(*RotationStats)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.rotation)
}

// failed notes that something went wrong with a file.
func (a *account) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastError, a.lastErrorTime = err, time.Now()
}

// accounts returns what was counted. The caller holds mu.
func (a *account) accounts() Accounts {
	st := Accounts{
		Received: a.total.received,
		Written:  a.total.written,
		Queued:   a.total.queued,
		Dropped:  maps.Clone(a.total.byReason),
	}
	for key, s := range a.logs {
		st.Logs = append(st.Logs, LogStats{key.path, key.stream, s.file, s.received, s.written, s.queued, s.dropped, maps.Clone(s.byReason), s.bytes})
	}
	slices.SortFunc(st.Logs, func(x, y LogStats) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Stream, y.Stream))
	})
	for node, s := range a.senders {
		st.Senders = append(st.Senders, SenderStats{node, s.received, s.written, s.queued, s.dropped, maps.Clone(s.byReason)})
	}
	slices.SortFunc(st.Senders, func(x, y SenderStats) int { return strings.Compare(x.Node, y.Node) })
	return st
}

// Stats returns what the logger has done so far. It does not wait for any file.
func (l *Logger) Stats() Stats {
	a := &l.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	return Stats{
		Accounts:      a.accounts(),
		OpenFiles:     a.openFiles,
		Rotation:      a.rotation,
		LastError:     a.lastError,
		LastErrorTime: a.lastErrorTime,
	}
}
