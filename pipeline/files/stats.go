package files

import (
	"sync"
	"time"

	"zmtpd/pipeline"
)

// Stats is what a Logger has done since New. Written is what was handed to the operating system; Queued
// is being decoded, or waits for the next flush or for a file that cannot be written. What a Sink gives back is
// not in it any more.
type Stats struct {
	pipeline.Accounts
	// OpenFiles is the number of log files open now.
	OpenFiles int
	Rotation  RotationStats
	// LastError is the last failure to write, rotate, archive or sync a file, or of a
	// post-processor, nil if there was none; LastErrorTime is when it happened.
	LastError     error
	LastErrorTime time.Time
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

// state is what a Logger knows of its files besides the accounts.
type state struct {
	mu            sync.Mutex // guards everything below
	openFiles     int
	rotation      RotationStats
	lastError     error
	lastErrorTime time.Time
}

// open counts a file that is about to be opened, and returns false if there are most of them already.
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

// failed notes that something went wrong with a file.
func (s *state) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError, s.lastErrorTime = err, time.Now()
}

// Stats returns what the logger has done so far. It does not wait for any file.
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
