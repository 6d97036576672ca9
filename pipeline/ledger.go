package pipeline

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

const (
	maxSenders = 1024   // beyond that a node is counted under ""
	maxNodeID  = 256    // bytes; a longer id, which no Zeek has, is counted under ""
	maxLogs    = 10_000 // beyond that a log is counted under ""
)

// balance is one account. Ledger.mu guards it.
type balance struct {
	received, written, queued, dropped Counts
	byReason                           map[Reason]Counts // of dropped; nil if nothing was
}

// drop moves n from queued to dropped.
func (b *balance) drop(n Counts, r Reason) {
	b.queued.Sub(n)
	b.dropped.Add(n)
	if b.byReason == nil {
		b.byReason = map[Reason]Counts{}
	}
	d := b.byReason[r]
	d.Add(n)
	b.byReason[r] = d
}

// Sender is the account of one node in a [Ledger].
type Sender struct {
	balance
	warned uint64 // bit r is set when a drop for Reason r was logged
}

// LogAccount is the account of one stream and path in a [Ledger].
type LogAccount struct {
	balance
	file  string
	bytes uint64
}

// Share is the part of a buffer that is from one sender.
type Share struct {
	From *Sender
	N    Counts
}

// Shares are the parts of a buffer by sender.
type Shares []Share

// Add adds n to the share of a sender.
func (s *Shares) Add(from *Sender, n Counts) {
	for i := range *s {
		if (*s)[i].From == from {
			(*s)[i].N.Add(n)
			return
		}
	}
	*s = append(*s, Share{from, n})
}

// Remove subtracts n from the share of a sender.
func (s Shares) Remove(from *Sender, n Counts) {
	for i := range s {
		if s[i].From == from {
			s[i].N.Sub(n)
		}
	}
}

// Sum returns the sum of all shares.
func (s Shares) Sum() (n Counts) {
	for _, one := range s {
		n.Add(one.N)
	}
	return n
}

// Ledger keeps the accounts of a Receiver, an Outlet, or a sink that has accounts of its own. All
// methods are for concurrent use.
type Ledger struct {
	log *slog.Logger

	mu      sync.Mutex // guards everything below, and every Sender and LogAccount
	total   balance
	senders map[string]*Sender
	logs    map[LogKey]*LogAccount
}

// NewLedger returns a ledger that logs the first drop of each sender and reason.
func NewLedger(log *slog.Logger) *Ledger {
	a := &Ledger{log: log, senders: map[string]*Sender{}, logs: map[LogKey]*LogAccount{}}
	a.total.byReason = map[Reason]Counts{}
	for _, r := range Reasons() {
		a.total.byReason[r] = Counts{}
	}
	return a
}

// sender returns the account of a node. The caller holds mu.
func (a *Ledger) sender(node []byte) *Sender {
	if s := a.senders[string(node)]; s != nil {
		return s
	}
	if len(node) > maxNodeID || len(a.senders) >= maxSenders {
		node = nil
	}
	s := a.senders[string(node)]
	if s == nil {
		s = &Sender{}
		a.senders[string(node)] = s
	}
	return s
}

// Log returns the account of a log whose file has that name, without extension.
func (a *Ledger) Log(key LogKey, file string) *LogAccount {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logOf(key, file)
}

// admit is Receive and ReceiveLog in one.
func (a *Ledger) admit(node []byte, key LogKey, n Counts) (*Sender, *LogAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from, log := a.sender(node), a.logOf(key, "")
	for _, b := range []*balance{&a.total, &from.balance, &log.balance} {
		b.received.Add(n)
		b.queued.Add(n)
	}
	return from, log
}

// find returns the accounts of a message that was admitted before.
func (a *Ledger) find(node []byte, key LogKey) (*Sender, *LogAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sender(node), a.logOf(key, "")
}

// logOf is Log for a caller who holds mu.
func (a *Ledger) logOf(key LogKey, file string) *LogAccount {
	s := a.logs[key]
	if s == nil {
		if len(a.logs) >= maxLogs {
			key, file = LogKey{}, ""
		}
		if s = a.logs[key]; s == nil {
			s = &LogAccount{}
			a.logs[key] = s
		}
	}
	s.file = file
	return s
}

// Receive counts a message as received and queued.
func (a *Ledger) Receive(node []byte, n Counts) *Sender {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sender(node)
	for _, b := range []*balance{&a.total, &s.balance} {
		b.received.Add(n)
		b.queued.Add(n)
	}
	return s
}

// GiveBack removes a received message from the accounts: it went back to where it came from. s is
// nil if its log is not known.
func (a *Ledger) GiveBack(from *Sender, s *LogAccount, n Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	balances := []*balance{&a.total, &from.balance}
	if s != nil {
		balances = append(balances, &s.balance)
	}
	for _, b := range balances {
		b.received.Sub(n)
		b.queued.Sub(n)
	}
}

// ReceiveLog counts a received batch for its log.
func (a *Ledger) ReceiveLog(s *LogAccount, n Counts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.received.Add(n)
	s.queued.Add(n)
}

// Wrote moves batches of a log from queued to written.
func (a *Ledger) Wrote(s *LogAccount, queued Shares, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.bytes += uint64(bytes)
	for _, one := range queued {
		for _, b := range []*balance{&a.total, &s.balance, &one.From.balance} {
			b.queued.Sub(one.N)
			b.written.Add(one.N)
		}
	}
}

// Abandon moves batches of a log from queued to dropped.
func (a *Ledger) Abandon(s *LogAccount, queued Shares, r Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range queued {
		a.dropQueued(one.From, s, one.N, r)
	}
}

// Drop moves a message from queued to dropped, and reports whether it is the first one of its
// sender for that reason. s is nil if its log is not known.
func (a *Ledger) Drop(from *Sender, s *LogAccount, n Counts, r Reason) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = from.warned&(1<<r) == 0
	from.warned |= 1 << r
	a.dropQueued(from, s, n, r)
	return first
}

// Refuse counts a message whose records are not known, and logs it as Drop and Warn do.
func (a *Ledger) Refuse(node []byte, e *DropError) {
	n := Counts{Messages: 1}
	if a.Drop(a.Receive(node, n), nil, n, e.Reason) {
		a.Warn(e, node, "")
	}
}

// Warn logs the first drop of a sender for a reason.
func (a *Ledger) Warn(e *DropError, node []byte, path string) {
	a.log.Warn("log message dropped, more for this reason from this node are only counted",
		"reason", e.Reason.String(), "node", string(node[:min(len(node), maxNodeID)]), "path", path,
		"err", e.Err)
}

// dropQueued moves n from queued to dropped. The caller holds mu.
func (a *Ledger) dropQueued(from *Sender, s *LogAccount, n Counts, r Reason) {
	a.total.drop(n, r)
	from.drop(n, r)
	if s != nil {
		s.drop(n, r)
	}
}

// Accounts returns what was counted.
func (a *Ledger) Accounts() Accounts {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := Accounts{
		Received: a.total.received,
		Written:  a.total.written,
		Queued:   a.total.queued,
		Dropped:  maps.Clone(a.total.byReason),
	}
	for key, s := range a.logs {
		st.Logs = append(st.Logs, LogStats{key.Path, key.Stream, s.file, s.received, s.written,
			s.queued, s.dropped, maps.Clone(s.byReason), s.bytes})
	}
	slices.SortFunc(st.Logs, func(x, y LogStats) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Stream, y.Stream))
	})
	for node, s := range a.senders {
		st.Senders = append(st.Senders,
			SenderStats{node, s.received, s.written, s.queued, s.dropped, maps.Clone(s.byReason)})
	}
	slices.SortFunc(st.Senders, func(x,
		y SenderStats) int {
		return strings.Compare(x.Node, y.Node)
	})
	return st
}
