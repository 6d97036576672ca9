package files

import (
	"io"
	"io/fs"
	"os"
	"sync"
)

// stdoutPath is the log path of everything if it goes to the standard output, as
// Zeek's headers have it.
const stdoutPath = "/dev/stdout"

// stdout is the standard output as the file of all logs. What one of them writes
// at a time stays together.
type stdout struct {
	mu   sync.Mutex
	w    io.Writer // guarded by mu
	rest []byte    // guarded by mu; of a write that ended halfway: it cannot be taken back, so it goes on
}

// Write writes b, all of it or nothing: what could not be written comes first the next time.
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

// Sync writes what is left of a write that ended halfway.
func (s *stdout) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain()
}

// Close does nothing: the standard output is not the logger's.
func (s *stdout) Close() error { return nil }

// Truncate is never called: no write ends halfway.
func (s *stdout) Truncate(int64) error { return fs.ErrInvalid }

// Stat says nothing: the output is no file of the log folder.
func (s *stdout) Stat() (os.FileInfo, error) { return nil, fs.ErrInvalid }
