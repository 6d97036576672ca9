package files

import (
	"sync"
	"time"

	"zmtpd/pipeline"
)

// Stats tells what a Logger has done since New. Written counts what the operating system has
// accepted. Queued counts what is being rendered, or waits for a flush or for a file that cannot be
// written. Entries that went back to their outlet do not count.
type Stats struct {
	pipeline.Accounts
	// OpenFiles is the number of log files that are open.
	OpenFiles int
	Rotation  RotationStats
	// LastError is the last failure to write, rotate, archive or sync a file, or of a
	// post-processor, nil for none. LastErrorTime is its time.
	LastError     error
	LastErrorTime time.Time
}

// RotationStats counts rotated logs.
type RotationStats struct {
	Rotated  uint64 // logs with their final name
	Pending  int    // logs without it: being synced, compressed or moved
	Failures uint64 // failed attempts; others follow
	// Postprocessed counts the runs of the post-processor that have ended. PostprocessFailed counts
	// those of them that were killed or had another exit status than 0, and those that could not be
	// started. PostprocessRunning is the number of those that run or wait.
	Postprocessed, PostprocessFailed uint64
	PostprocessRunning               int
	Expired, ExpiredBytes            uint64 // archived logs that were deleted
}

// state is the part of Stats besides the accounts.
type state struct {
	mu            sync.Mutex // guards everything below
	openFiles     int
	rotation      RotationStats
	lastError     error
	lastErrorTime time.Time
}

// open counts a file that is about to be opened. It returns false if most are open already.
func (s *state) open(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openFiles >= most {
		return false
	}
	s.openFiles++
	return true
}

// closed counts a file that was closed.
func (s *state) closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openFiles--
}

// rotating changes the counts of rotated logs.
func (s *state) rotating(change func(*RotationStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.rotation)
}

// failed notes the last error.
func (s *state) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError, s.lastErrorTime = err, time.Now()
}

// Stats returns what the logger has done so far. It does not wait for files.
func (l *Logger) Stats() Stats {
	accounts := l.acct.Accounts()
	s := &l.state
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Accounts:      accounts,
		OpenFiles:     s.openFiles,
		Rotation:      s.rotation,
		LastError:     s.lastError,
		LastErrorTime: s.lastErrorTime,
	}
}
