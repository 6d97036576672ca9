package files

import (
	"io"
	"io/fs"
	"os"
	"sync"
)

// stdoutPath is the log path in the headers of all logs on standard output, as in Zeek.
const stdoutPath = "/dev/stdout"

// stdout is the standard output as the file of all logs. Each write stays together.
type stdout struct {
	mu   sync.Mutex
	w    io.Writer // guarded by mu
	rest []byte    // guarded by mu; of a write that failed halfway and cannot be undone
}

// Write takes all of b or nothing. The rest of a write that failed halfway comes first the next
// time.
func (s *stdout) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.drain(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err != nil && n == 0 {
		return 0, err
	}
	s.rest = append(s.rest, b[n:]...)
	return len(b), nil
}

// drain writes the rest. The caller holds mu.
func (s *stdout) drain() error {
	if len(s.rest) == 0 {
		return nil
	}
	n, err := s.w.Write(s.rest)
	s.rest = s.rest[:copy(s.rest, s.rest[n:])]
	return err
}

// Sync writes the rest of a write that failed halfway.
func (s *stdout) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain()
}

// Close does nothing: the logger does not own the standard output.
func (s *stdout) Close() error { return nil }

// Truncate is never called, since no write fails halfway.
func (s *stdout) Truncate(int64) error { return fs.ErrInvalid }

// Stat fails: the output is no file of the log folder.
func (s *stdout) Stat() (os.FileInfo, error) { return nil, fs.ErrInvalid }

// Reserve cannot tell.
func (s *stdout) Reserve(int64) error { return nil }
