package files

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Nodes may send several streams, or several sets of columns, to one log path: their scripts have
// changed, or one node differs from all others. The stream and columns that most nodes send get the
// name of the path. The others get names beside it, and lose no record. So one node cannot take a
// name from the rest of the cluster.

// node is what the logger knows about one node.
type node struct {
	id     string
	active atomic.Int64 // time of its last batch, in ns since 1970
	files  int          // guarded by Logger.mu; logFiles that it owns
}

// nodeGone is the silence, in all logs, after which the votes of a node do not count.
const nodeGone = time.Minute

// ballot has the votes of the nodes for a stream or a set of columns: those that send it.
type ballot struct {
	mu     sync.Mutex
	voters map[*node]time.Time // guarded by mu; the time of each one's last batch
	last   *node               // guarded by mu; the last voter
}

// cast notes that a node has sent a batch.
func (b *ballot) cast(n *node, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == n && now.Sub(b.voters[n]) < time.Second {
		return
	}
	if b.voters == nil {
		b.voters = map[*node]time.Time{}
	}
	b.voters[n], b.last = now, n
}

// count returns the number of nodes that have sent a batch in the last columnsIdle and are not
// gone.
func (b *ballot) count(now time.Time) (votes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, at := range b.voters {
		if now.Sub(at) > columnsIdle || now.Sub(time.Unix(0, n.active.Load())) > nodeGone {
			delete(b.voters, n)
		} else {
			votes++
		}
	}
	return votes
}

// pathName tells which log has the name of its path. Logger.mu guards it.
type pathName struct {
	holder *streamLog // has the name; nil for none
	next   *streamLog // gets the name when holder has let go of it; nil for none

	streams int // number of logs with this path
}

// isNative reports whether path is Zeek's default for a stream, apart from underscores: http for
// HTTP::LOG, notice_alarm for Notice::ALARM_LOG (Log::default_path_func in
// scripts/base/frameworks/logging/main.zeek).
func isNative(stream, path string) bool {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "::",
			"").Replace(s))
	}
	module, isLog := strings.CutSuffix(stream, "LOG")
	return isLog && plain(module) == plain(path)
}

// settle decides at most once a second whether the log gets the name of its path or has to let go
// of it. The caller holds mu.
func (s *streamLog) settle(now time.Time) error {
	if s.gone || s.l.options.Stdout || now.Before(s.nextSettle) &&
		now.After(s.nextSettle.Add(-time.Minute)) {
		return nil
	}
	s.nextSettle = now.Add(time.Second)
	l := s.l
	l.mu.Lock()
	p := l.paths[s.key.Path]
	if p.next == nil && p.holder != s && (p.holder == nil || s.outvotes(p.holder, now)) {
		p.next = s
		if p.holder != nil {
			l.log.Warn("most nodes send another stream to a log path: it gets the name of the path",
				"path", s.key.Path, "stream", s.key.Stream, "had", p.holder.key.Stream,
				"from", p.holder.first)
		}
	}
	letGo := p.holder == s && p.next != nil
	take := p.next == s && p.holder == nil && !l.bases[s.key.Path]
	l.mu.Unlock()
	if !letGo && !take {
		return nil
	}
	for _, f := range s.files {
		if err := f.rotate(now); err != nil {
			return err
		}
	}
	l.mu.Lock()
	delete(l.bases, s.base)
	if letGo {
		p.holder = nil
		s.base = l.claim(s.sideBase())
	} else {
		p.holder, p.next = s, nil
		s.base = s.key.Path
		l.bases[s.base] = true
	}
	l.mu.Unlock()
	l.acct.Log(s.key, s.base)
	return nil
}

// outvotes reports whether more nodes send s than other, or as many if the path is native to s
// only.
func (s *streamLog) outvotes(other *streamLog, now time.Time) bool {
	mine, others := s.ballot.count(now), other.ballot.count(now)
	return mine > others || mine == others && s.native && !other.native
}

// sideBase returns the name of a log while another one has the name of its path.
func (s *streamLog) sideBase() string { return s.key.Path + "." + safeName(s.key.Stream) }

// leads reports whether more nodes send the columns of f than any other columns of the log, or with
// ties as many. The caller holds mu.
func (s *streamLog) leads(f *logFile, ties bool, now time.Time) bool {
	mine := f.ballot.count(now)
	for _, g := range s.files {
		if g == f {
			continue
		}
		if others := g.ballot.count(now); others > mine || others == mine && !ties {
			return false
		}
	}
	return true
}

// reclaim ends the file of f if its columns take over the name of the log. The caller holds the
// log's mu.
func (f *logFile) reclaim(now time.Time) error {
	s := f.log
	if f.side == "" || f.name != f.side || now.Before(f.nextClaim) &&
		now.After(f.nextClaim.Add(-time.Minute)) {
		return nil
	}
	f.nextClaim = now.Add(time.Second)
	if !s.leads(f, false, now) {
		return nil
	}
	return f.rotate(now)
}
